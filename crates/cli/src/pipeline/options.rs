//! Options of a command as a map in a file: each key is the name of a flag, and means what the flag means.
//!
//! The command's own arguments say which there are, so a flag has one definition, one help and one check.

use std::collections::BTreeMap;
use std::fmt;

use clap::{Arg, ArgAction, CommandFactory};
use schemars::Schema;
use serde::de::{self, Deserializer, SeqAccess, Visitor};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use crate::Arguments;

/// The value of an option.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) enum Setting {
    /// A flag without a value is given or not.
    Given(bool),
    /// The values of a flag, more than one where it may be repeated.
    Values(Vec<String>),
}

/// Options of one command by the names of its flags, without the dashes.
pub(crate) type Options = BTreeMap<String, Setting>;

/// Options as words of a command line.
pub(crate) fn words(options: &Options) -> Vec<String> {
    let mut words = Vec::new();
    for (name, setting) in options {
        match setting {
            Setting::Given(true) => words.push(format!("--{name}")),
            Setting::Given(false) => {}
            // With `=`, so that a value that begins with a dash is a value.
            Setting::Values(values) => {
                words.extend(values.iter().map(|value| format!("--{name}={value}")));
            }
        }
    }
    words
}

/// The options that a file may give to a command: its flags but those that the pipeline gives itself.
pub(crate) fn known(command: &str) -> Vec<Arg> {
    let ours: &[&str] = match command {
        "train" => &["model", "out", "resume"],
        "profile" => &["platform", "model", "input", "run", "operators", "transfer-from", "out"],
        _ => &["platform", "all-platforms", "run", "model", "out"],
    };
    let arguments = Arguments::command();
    let found = arguments.find_subcommand(command).expect("the command is there");
    let is_known = |argument: &&Arg| argument.get_long().is_some_and(|long| !ours.contains(&long));
    found.get_arguments().filter(is_known).cloned().collect()
}

/// The schema of a command's options, with further properties.
pub(crate) fn schema(command: &str, further: Map<String, Value>) -> Schema {
    let mut properties = further;
    for argument in known(command) {
        let long = argument.get_long().expect("only such are known").to_owned();
        properties.insert(long, property(&argument));
    }
    let value = json!({"type": "object", "properties": properties, "additionalProperties": false});
    value.try_into().expect("an object is a schema")
}

fn property(argument: &Arg) -> Value {
    let help = argument.get_long_help().or(argument.get_help()).map(ToString::to_string);
    let mut schema = match argument.get_action() {
        ArgAction::SetTrue => json!({"type": "boolean"}),
        ArgAction::Append => json!({
            "type": ["string", "number", "array"],
            "items": {"type": ["string", "number"]},
        }),
        _ => json!({"type": ["string", "number"]}),
    };
    let object = schema.as_object_mut().expect("it was made as one");
    object.insert("description".to_owned(), json!(help.unwrap_or_default()));
    if let [default] = argument.get_default_values() {
        object.insert("default".to_owned(), json!(default.to_string_lossy()));
    }
    schema
}

impl<'de> Deserialize<'de> for Setting {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(SettingVisitor)
    }
}

struct SettingVisitor;

impl<'de> Visitor<'de> for SettingVisitor {
    type Value = Setting;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("a text, a number, true, false, or a list of texts and numbers")
    }

    fn visit_bool<E: de::Error>(self, value: bool) -> Result<Setting, E> {
        Ok(Setting::Given(value))
    }

    fn visit_u64<E: de::Error>(self, value: u64) -> Result<Setting, E> {
        self.visit_string(value.to_string())
    }

    fn visit_i64<E: de::Error>(self, value: i64) -> Result<Setting, E> {
        self.visit_string(value.to_string())
    }

    fn visit_f64<E: de::Error>(self, value: f64) -> Result<Setting, E> {
        self.visit_string(value.to_string())
    }

    fn visit_str<E: de::Error>(self, value: &str) -> Result<Setting, E> {
        self.visit_string(value.to_owned())
    }

    fn visit_string<E: de::Error>(self, value: String) -> Result<Setting, E> {
        Ok(Setting::Values(vec![value]))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Setting, A::Error> {
        let mut values = Vec::new();
        while let Some(setting) = list.next_element::<Setting>()? {
            match setting {
                Setting::Values(mut one) if one.len() == 1 => values.append(&mut one),
                _ => return Err(de::Error::custom("a list holds texts and numbers, nothing else")),
            }
        }
        Ok(Setting::Values(values))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_become_words() {
        for (yaml, expected) in [
            ("{}", &[][..]),
            ("{steps: 60}", &["--steps=60"]),
            ("{budget: [70us, 300KB], form: auto}", &["--budget=70us", "--budget=300KB", "--form=auto"]),
            ("{report: true, subnets: 4}", &["--report", "--subnets=4"]),
            ("{report: false}", &[]),
            ("{max-accuracy-drop: 0.5, seed: -1}", &["--max-accuracy-drop=0.5", "--seed=-1"]),
        ] {
            let options: Options = serde_yaml::from_str(yaml).expect(yaml);
            assert_eq!(words(&options), expected, "{yaml}");
        }
        for yaml in ["{budget: [true]}", "{budget: {a: b}}", "{budget: ~}"] {
            assert!(serde_yaml::from_str::<Options>(yaml).is_err(), "{yaml}");
        }
    }

    #[test]
    fn the_pipeline_gives_some_flags_itself() {
        for (command, has, lacks) in [
            ("train", "steps", "resume"),
            ("profile", "subnets", "platform"),
            ("export", "budget", "platform"),
        ] {
            let names: Vec<String> =
                known(command).iter().filter_map(|argument| argument.get_long().map(str::to_owned)).collect();
            assert!(names.iter().any(|name| name == has), "{command}: {names:?}");
            assert!(names.iter().all(|name| name != lacks && name != "help"), "{command}: {names:?}");
        }
    }
}
