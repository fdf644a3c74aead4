//! Lists of processors as Redis's configuration writes them: `0,2-3`, `0-7:2`.

/// No list reaches further: as many processors as the kernel's plain `cpu_set_t` has.
pub const CPUS_MAX: usize = 1_024;

/// A list, and the text that it was written as.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CpuList {
    text: Vec<u8>,
    cpus: Vec<usize>,
}

impl CpuList {
    /// Reads numbers and ranges `first-last`, each range with an optional step (`:2` is every
    /// second), separated by commas. An empty list names no processor.
    ///
    /// # Errors
    /// What is wrong with it, fit for a message.
    pub fn parse(text: &[u8]) -> Result<CpuList, &'static str> {
        Ok(CpuList { text: text.to_vec(), cpus: parse(text)? })
    }

    /// The numbers of the processors, in the order of the list.
    #[must_use]
    pub fn cpus(&self) -> &[usize] {
        &self.cpus
    }

    /// As it was written.
    #[must_use]
    pub fn text(&self) -> &[u8] {
        &self.text
    }
}

fn parse(list: &[u8]) -> Result<Vec<usize>, &'static str> {
    const MALFORMED: &str = "CPU list must look like 0,2-3 or 0-7:2";
    let mut cpus = Vec::new();
    if list.is_empty() {
        return Ok(cpus);
    }
    for item in list.split(|&byte| byte == b',') {
        let mut halves = item.splitn(2, |&byte| byte == b':');
        let range = halves.next().unwrap_or(&[]);
        let step = halves.next().map_or(Some(1), number);
        let mut ends = range.splitn(2, |&byte| byte == b'-');
        let first = ends.next().and_then(number);
        let last = ends.next().map_or(first, number);
        let (Some(first), Some(last), Some(step)) = (first, last, step) else {
            return Err(MALFORMED);
        };
        if first > last || step == 0 {
            return Err(MALFORMED);
        }
        if last >= CPUS_MAX {
            return Err("CPU list names a processor above 1023");
        }
        cpus.extend((first..=last).step_by(step));
    }
    Ok(cpus)
}

fn number(text: &[u8]) -> Option<usize> {
    // Five digits are more than any processor has, and cannot overflow.
    let plain = (1..=5).contains(&text.len()) && text.iter().all(u8::is_ascii_digit);
    plain.then(|| text.iter().fold(0, |sum, digit| sum * 10 + usize::from(digit - b'0')))
}

#[cfg(test)]
mod tests {
    use super::parse;

    #[test]
    fn numbers_ranges_and_steps() {
        assert_eq!(parse(b""), Ok(vec![]));
        assert_eq!(parse(b"3"), Ok(vec![3]));
        assert_eq!(parse(b"0,2-4"), Ok(vec![0, 2, 3, 4]));
        assert_eq!(parse(b"1-7:3,0"), Ok(vec![1, 4, 7, 0]));
        assert_eq!(parse(b"1023"), Ok(vec![1023]));
    }

    #[test]
    fn what_is_malformed_is_refused() {
        let bad: [&[u8]; 13] = [
            b",", b"1,", b"a", b"-", b"1-", b"-1", b"2-1", b"1-3:", b"1-3:0", b"1-3-5", b" 1",
            b"1024", b"123456",
        ];
        for list in bad {
            assert!(parse(list).is_err(), "{}", String::from_utf8_lossy(list));
        }
    }
}
