//! What every page has around its body.

use maud::{DOCTYPE, Markup, PreEscaped, html};

/// A whole HTML page; the title is escaped. A page of a site has a link to its `index`.
pub(super) fn document(title: &str, index: Option<&str>, body: &Markup) -> String {
    let page = html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                title { (title) }
                style { (PreEscaped(include_str!("style.css"))) }
            }
            body {
                @if let Some(index) = index { p { a href=(index) { "All models" } } }
                (body)
            }
        }
    };
    page.into_string()
}
