//! Randomness from the kernel.

// getrandom has no safe wrapper in nix or the standard library.
#![allow(unsafe_code)]

use std::fmt::Write as _;
use std::io;

/// Fills `buffer` with bytes that nobody can predict. Waits only if the machine has just booted
/// and has not gathered entropy yet.
///
/// # Errors
/// Those of getrandom, a signal excepted: on Linux 3.17 and later, none in practice.
pub fn fill(buffer: &mut [u8]) -> io::Result<()> {
    let mut rest = buffer;
    while !rest.is_empty() {
        // SAFETY: the pointer and length are those of a writable slice that outlives the call.
        let got = unsafe { libc::getrandom(rest.as_mut_ptr().cast(), rest.len(), 0) };
        match usize::try_from(got) {
            Ok(got) => rest = rest.get_mut(got..).unwrap_or_default(),
            Err(_) => {
                let error = io::Error::last_os_error();
                if error.kind() != io::ErrorKind::Interrupted {
                    return Err(error);
                }
            }
        }
    }
    Ok(())
}

/// Random bytes by number, such as the 16 that key a hash.
///
/// # Errors
/// As [`fill`].
pub fn bytes<const N: usize>() -> io::Result<[u8; N]> {
    let mut bytes = [0; N];
    fill(&mut bytes)?;
    Ok(bytes)
}

/// A fresh identity of a server run: 40 hexadecimal digits, as INFO shows for `run_id`.
///
/// # Errors
/// As [`fill`].
pub fn run_id() -> io::Result<String> {
    Ok(bytes::<20>()?.iter().fold(String::with_capacity(40), |mut text, byte| {
        write!(text, "{byte:02x}").expect("a String takes every write");
        text
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn run_ids_are_forty_hexadecimal_digits_and_differ() {
        let (a, b) = (run_id().expect("random"), run_id().expect("random"));
        assert_eq!(a.len(), 40);
        assert!(a.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f')), "{a}");
        assert_ne!(a, b);
    }

    #[test]
    fn large_buffers_are_filled_to_the_end() {
        let mut buffer = vec![0; 1 << 20];
        fill(&mut buffer).expect("random");
        assert!(buffer.chunks(64).all(|chunk| chunk.iter().any(|&byte| byte != 0)));
    }
}
