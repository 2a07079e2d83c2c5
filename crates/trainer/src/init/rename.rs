//! Rules that rename a file's tensors.

use std::collections::BTreeMap;

use regex::Regex;

use super::{InitError, Rename};

/// A rule that is ready to be applied.
pub(super) struct Rule {
    pattern: Regex,
    replacement: String,
}

/// Makes rules ready.
///
/// # Errors
///
/// The first rule that is no regular expression or whose replacement names a group that is not there.
pub(super) fn compile(map: &[Rename]) -> Result<Vec<Rule>, InitError> {
    let compile = |(index, rule): (usize, &Rename)| {
        let Rename { from, to } = rule.clone();
        let pattern = Regex::new(&from).map_err(|error| InitError::Rule {
            index,
            from: from.clone(),
            reason: reason(&error.to_string()),
        })?;
        match references(&to).into_iter().find(|group| !has_group(&pattern, group)) {
            Some(group) => Err(InitError::Group { index, from, to, group }),
            None => Ok(Rule { pattern, replacement: to }),
        }
    };
    map.iter().enumerate().map(compile).collect()
}

/// Makes patterns ready that a whole name must match.
///
/// # Errors
///
/// The first one that is no regular expression.
pub(super) fn whole_names(patterns: &[String]) -> Result<Vec<Regex>, InitError> {
    let compile = |(index, pattern): (usize, &String)| {
        // By itself first: within the group an unbalanced parenthesis might pass.
        Regex::new(pattern).and_then(|_| Regex::new(&format!("^(?:{pattern})$"))).map_err(|error| {
            let reason = reason(&error.to_string());
            InitError::Fresh { index, pattern: pattern.clone(), reason }
        })
    };
    patterns.iter().enumerate().map(compile).collect()
}

/// Renames tensors, rule after rule; those whose name becomes empty are left out.
///
/// # Errors
///
/// Each name that several tensors would have, with their names in the file.
pub(super) fn apply<T>(
    rules: &[Rule],
    tensors: BTreeMap<String, T>,
) -> Result<BTreeMap<String, T>, BTreeMap<String, Vec<String>>> {
    let rename = |name: &str| {
        rules.iter().fold(name.to_owned(), |name, rule| {
            rule.pattern.replace_all(&name, rule.replacement.as_str()).into_owned()
        })
    };
    let mut origins: BTreeMap<String, Vec<String>> = BTreeMap::new();
    let mut renamed = BTreeMap::new();
    for (old, tensor) in tensors {
        let new = rename(&old);
        if !new.is_empty() {
            origins.entry(new.clone()).or_default().push(old);
            renamed.insert(new, tensor);
        }
    }
    origins.retain(|_, names| names.len() > 1);
    if origins.is_empty() { Ok(renamed) } else { Err(origins) }
}

/// Clashing names as a text.
pub(super) fn describe(clashes: &BTreeMap<String, Vec<String>>) -> String {
    let texts = clashes.iter().map(|(new, old)| format!("{} all become {new}", old.join(", ")));
    texts.collect::<Vec<_>>().join("; ")
}

/// What is wrong with an expression, without the drawing of it.
fn reason(text: &str) -> String {
    let text = text.rsplit_once("error: ").map_or(text, |(_, reason)| reason);
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

fn has_group(pattern: &Regex, group: &str) -> bool {
    match group.parse::<usize>() {
        Ok(index) => index < pattern.captures_len(),
        Err(_) => pattern.capture_names().flatten().any(|name| name == group),
    }
}

/// The groups that a replacement names, by the rules of the crate `regex`: `$name` takes as many letters,
/// digits and `_` as there are, `${name}` ends where it says, and `$$` is a dollar sign.
fn references(replacement: &str) -> Vec<String> {
    let mut groups = Vec::new();
    let mut rest = replacement;
    while let Some((_, after)) = rest.split_once('$') {
        rest = after;
        if let Some(after) = rest.strip_prefix('$') {
            rest = after;
        } else if let Some((name, after)) = rest.strip_prefix('{').and_then(|rest| rest.split_once('}')) {
            groups.push(name.to_owned());
            rest = after;
        } else {
            let is_name = |c: char| c.is_ascii_alphanumeric() || c == '_';
            let end = rest.find(|c| !is_name(c)).unwrap_or(rest.len());
            if end > 0 {
                groups.push(rest[..end].to_owned());
            }
            rest = &rest[end..];
        }
    }
    groups
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rules(map: &[(&str, &str)]) -> Result<Vec<Rule>, InitError> {
        let rename = |(from, to): &(&str, &str)| Rename { from: (*from).to_owned(), to: (*to).to_owned() };
        compile(&map.iter().map(rename).collect::<Vec<_>>())
    }

    #[test]
    fn names_by_hand() {
        for (map, name, expected) in [
            (&[][..], "a.b", "a.b"),
            (&[("a", "b")], "a.a", "b.b"),
            (&[("^model\\.", "")], "model.norm.weight", "norm.weight"),
            (&[("^encoder\\.layer\\.(\\d+)\\.", "blocks.$1.")], "encoder.layer.11.x", "blocks.11.x"),
            (&[("(\\w+)_(\\d)", "${2}_$1")], "x_1", "1_x"),
            (&[("(?<n>\\d)", "<$n>")], "a.0", "a.<0>"),
            (&[("a", "b"), ("b", "c")], "a", "c"),
            (&[("^a$", "$$")], "a", "$"),
            (&[("^teacher\\..*", "")], "teacher.head", ""),
        ] {
            let rules = rules(map).unwrap_or_else(|error| panic!("{map:?}: {error}"));
            let found = apply(&rules, BTreeMap::from([(name.to_owned(), 1)])).expect("one name cannot clash");
            let names: Vec<String> = found.into_keys().collect();
            let expected: &[&str] = if expected.is_empty() { &[] } else { &[expected] };
            assert_eq!(names, expected, "{map:?} {name}");
        }
    }

    #[test]
    fn rules_that_are_refused() {
        for (map, expected) in [
            (
                &[("a", "b"), ("(", "")][..],
                "init.map[1].from is `(`, which is no regular expression: unclosed group",
            ),
            (
                &[("(a)", "$1_x")],
                "init.map[0].to is `$1_x`, but `(a)` has no group `1_x`; a group before a letter, a digit or `_` \
                 is written ${1}, and a dollar sign $$",
            ),
            (
                &[("(a)", "${2}")],
                "init.map[0].to is `${2}`, but `(a)` has no group `2`; a group before a letter, a digit or `_` is \
                 written ${1}, and a dollar sign $$",
            ),
        ] {
            let error = rules(map).err().unwrap_or_else(|| panic!("{map:?} is taken"));
            assert_eq!(error.to_string(), expected);
        }
    }

    #[test]
    fn every_clash_is_listed() {
        let rules = rules(&[("\\d", "")]).expect("a rule");
        let tensors = ["a1", "a2", "b", "c3", "c", "c4"].map(|name| (name.to_owned(), ())).into();
        let clashes = apply(&rules, tensors).expect_err("names clash");
        assert_eq!(describe(&clashes), "a1, a2 all become a; c, c3, c4 all become c");
    }
}
