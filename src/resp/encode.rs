//! Commands as RESP: what the append-only file holds.

/// Appends `*<len>\r\n`.
pub fn array_header(out: &mut Vec<u8>, len: usize) {
    header(out, b'*', len);
}

/// Appends `$<len>\r\n<bytes>\r\n` and returns where in `out` the bytes begin.
pub fn bulk(out: &mut Vec<u8>, bytes: &[u8]) -> usize {
    header(out, b'$', bytes.len());
    let start = out.len();
    out.extend_from_slice(bytes);
    out.extend_from_slice(b"\r\n");
    start
}

/// Appends a whole command.
pub fn command(out: &mut Vec<u8>, args: &[&[u8]]) {
    array_header(out, args.len());
    for arg in args {
        bulk(out, arg);
    }
}

/// One write where the length has one digit or two, as it almost always has.
#[inline]
fn header(out: &mut Vec<u8>, kind: u8, len: usize) {
    let digit = |value: usize| b'0' + value as u8;
    match len {
        0..10 => out.extend_from_slice(&[kind, digit(len), b'\r', b'\n']),
        10..100 => out.extend_from_slice(&[kind, digit(len / 10), digit(len % 10), b'\r', b'\n']),
        _ => long_header(out, kind, len),
    }
}

fn long_header(out: &mut Vec<u8>, kind: u8, len: usize) {
    out.push(kind);
    out.extend_from_slice(itoa::Buffer::new().format(len).as_bytes());
    out.extend_from_slice(b"\r\n");
}
