//! The help texts, as a newcomer reads them.

mod common;

use common::Bench;

#[test]
fn help() {
    let bench = Bench::fresh();
    let mut text = String::new();
    for command in [
        "",
        "train ",
        "report ",
        "inspect ",
        "profile ",
        "export ",
        "verify ",
        "pipeline ",
        "doctor ",
        "runtime ",
        "runtime install ",
        "data ",
        "data fetch ",
        "schema ",
    ] {
        text += &format!("$ elastic {command}--help\n{}\n", bench.succeed(&format!("{command}--help")));
    }
    let mut settings = insta::Settings::clone_current();
    settings.set_omit_expression(true);
    settings.bind(|| insta::assert_snapshot!("help", text));
}

#[test]
fn without_arguments_the_help_is_shown() {
    let bench = Bench::fresh();
    let output = bench.elastic("");
    assert_eq!(output.code, Some(2));
    assert_eq!(output.stderr, bench.succeed("-h"));
}
