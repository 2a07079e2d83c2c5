//! The `elastic` command.

fn main() {}
