//! The Redis protocol: arguments, parsing, replies, encoding, numbers as text.
