//! Integers and floats as text.

/// Parses canonical decimal text.
#[must_use]
pub fn parse_i64(text: &[u8]) -> Option<i64> {
    std::str::from_utf8(text).ok()?.parse().ok()
}

/// Writes a double the way replies show it.
pub fn write_f64(out: &mut Vec<u8>, value: f64) {
    out.extend_from_slice(value.to_string().as_bytes());
}
