//! The model card, for people.

use std::fmt::Write;

use elastic_data::DataConfig;
use elastic_space::budget::Quantity;

use super::super::report::Report;
use super::Origin;
use crate::table::percent;

pub(super) fn of(report: &Report, origin: &Origin, data: &DataConfig) -> String {
    let mut text = String::new();
    let mut line = |line: std::fmt::Arguments<'_>| writeln!(text, "{line}").expect("a String takes any text");
    let name = report.file.trim_end_matches(".onnx");
    let platform = report.platform.as_deref();
    line(format_args!(
        "---\nlibrary_name: onnx\npipeline_tag: image-classification\nmetrics: [accuracy]\n---\n"
    ));
    line(format_args!("# {name}\n"));
    line(format_args!(
        "An image classifier of the family {}, cut out of a supernet by elastic {}: {}.{}\n",
        report.family,
        report.elastic_version,
        report.subnet,
        platform.map_or_else(String::new, |name| {
            let others: String = report.shared_with.iter().map(|other| format!(", {other}")).collect();
            format!(" Chosen for the platform {name}{others}.")
        })
    ));
    line(format_args!("## Use\n"));
    line(format_args!(
        "The input `images` is `[batch, channels, height, width]`, 32-bit floats: (pixel / 255 - mean) / std, per channel,"
    ));
    line(format_args!(
        "with mean {:?} and std {:?}. The output `logits` is `[batch, classes]`:\n",
        data.mean, data.std
    ));
    for (index, class) in data.class_names.iter().enumerate() {
        line(format_args!("{index}. {}", escaped(class)));
    }
    line(format_args!("\n## What it does\n"));
    line(format_args!("| | |\n|---|---|"));
    let mut row = |what: &str, value: String| line(format_args!("| {what} | {value} |"));
    row(
        "accuracy on test images",
        format!("{} of {}", percent(report.proof.test_accuracy), report.proof.test_images),
    );
    row(
        "accuracy on validation images, by which it was chosen",
        format!("{} of {}", percent(report.validation_accuracy), report.validation_images),
    );
    row("parameters", Quantity::Params.format(report.cost.params as f64));
    row("multiply-accumulates of one input", Quantity::Macs.format(report.cost.macs as f64));
    row("file", Quantity::FileSize.format(report.file_bytes as f64));
    row("numbers", format!("{}, form {}, opset {}", report.precision, report.form, report.opset));
    if let (Some(us), Some(platform)) = (report.measured_latency_us, platform) {
        row("median latency", format!("{} on {platform}", Quantity::Latency.format(us)));
    }
    for budget in &report.budgets {
        row("budget", budget.to_string());
    }
    if let Some(tuned) = report.finetune.as_ref().filter(|tuned| tuned.kept) {
        row(
            "trained alone",
            format!(
                "in {} steps, validation accuracy {} before",
                tuned.steps,
                percent(tuned.accuracy_before)
            ),
        );
    }
    if let Some(cost) = &report.fewer_bits {
        row(
            "accuracy in 32-bit floats and as written",
            format!(
                "{} and {} of {} validation images",
                percent(cost.measured.accuracy_fp32),
                percent(cost.measured.accuracy),
                cost.measured.images
            ),
        );
    }
    line(format_args!("\n## What was proven\n"));
    let what = if report.fewer_bits.is_some() { "The same network in 32-bit floats" } else { "The file" };
    line(format_args!("{what} was compared with the supernet on validation images:\n"));
    line(format_args!("| runtime | largest difference of a logit | same class |\n|---|---|---|"));
    for agreement in &report.proof.agreement {
        line(format_args!(
            "| {} | {:.1e} | {} of {} |",
            agreement.runtime, agreement.max_abs_difference, agreement.same_top1, agreement.samples
        ));
    }
    if let Some(reason) = report.proof.not_compared {
        line(format_args!("\n{reason}."));
    }
    line(format_args!("\n## Limits\n"));
    line(format_args!(
        "It knows the classes above and gives one of them for every image. How well it does on images unlike those of"
    ));
    line(format_args!("`{}` was not measured.\n", data.source.path().display()));
    line(format_args!("## Origin\n"));
    line(format_args!("| | SHA-256 |\n|---|---|"));
    for (what, hash) in [
        ("file", &report.sha256),
        ("supernet", &report.checkpoint),
        ("configuration", &origin.config_sha256),
        ("training images", &origin.train_images.sha256),
        ("validation images", &origin.validation_images.sha256),
        ("test images", &report.proof.test_digest.sha256),
        ("program", &origin.program_sha256),
    ] {
        line(format_args!("| {what} | `{hash}` |"));
    }
    text
}

/// A name as plain text of Markdown.
fn escaped(name: &str) -> String {
    let escape = |letter: char| {
        let plain = letter.is_alphanumeric() || matches!(letter, ' ' | '/' | '-' | ',' | '.');
        if plain { letter.to_string() } else { format!("\\{letter}") }
    };
    name.chars().flat_map(|letter| escape(letter).chars().collect::<Vec<_>>()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn class_names_are_plain_text() {
        for (name, expected) in
            [("T-shirt/top", "T-shirt/top"), ("été 3", "été 3"), ("a*b_c|<d>", "a\\*b\\_c\\|\\<d\\>")]
        {
            assert_eq!(escaped(name), expected);
        }
    }
}
