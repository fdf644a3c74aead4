//! The binary: flags, logger, exit codes; nothing else.

fn main() {}
