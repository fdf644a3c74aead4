//! Numbers as text, by Redis's rules: which texts are a number, and how a number is printed.
//!
//! Redis accepts as an integer only its one canonical spelling, since it stores such values as
//! integers and must give back the bytes it was given. A float is what C's `strtod` takes in
//! whole: decimal or hexadecimal, `inf`, any number of digits.

use std::io::Write as _;

/// Parses `text` as Redis's canonical integer: an optional `-`, then digits without a leading
/// zero, within `i64`. `None` for everything else: `+1`, `01`, `-0`, spaces, the empty text.
/// O(1): at most 20 bytes are looked at.
#[must_use]
#[inline]
pub fn parse_i64(text: &[u8]) -> Option<i64> {
    let (negative, digits) = match text {
        [b'-', rest @ ..] => (true, rest),
        _ => (false, text),
    };
    match digits {
        [b'0'] => return (!negative).then_some(0),
        [b'1'..=b'9', ..] if digits.len() <= I64_DIGITS => {}
        _ => return None,
    }
    let mut magnitude = 0_u64;
    for &byte in digits {
        let digit = byte.wrapping_sub(b'0');
        if digit > 9 {
            return None;
        }
        // 19 digits are below 10^19, which u64 holds.
        magnitude = magnitude * 10 + u64::from(digit);
    }
    if negative { 0_i64.checked_sub_unsigned(magnitude) } else { i64::try_from(magnitude).ok() }
}

/// Digits of the longest `i64`.
const I64_DIGITS: usize = 19;

/// Parses the cursor of SCAN and its kin, which Redis leaves to C's `strtoul` in base 10: an
/// optional sign (`-` negates modulo 2^64), any leading zeros, nothing at all for 0; what follows
/// a zero byte is not looked at. `None` for leading space, junk, or more than `u64` holds.
#[must_use]
pub fn parse_cursor(text: &[u8]) -> Option<u64> {
    let text = text.split(|&byte| byte == 0).next().unwrap_or_default();
    let (negative, digits) = match text {
        [b'-', rest @ ..] => (true, rest),
        [b'+', rest @ ..] => (false, rest),
        _ => (false, text),
    };
    if digits.is_empty() {
        // A sign alone is no number, and then strtoul stops at the sign.
        return text.is_empty().then_some(0);
    }
    let mut magnitude = 0_u64;
    for &byte in digits {
        let digit = byte.wrapping_sub(b'0');
        if digit > 9 {
            return None;
        }
        magnitude = magnitude.checked_mul(10)?.checked_add(u64::from(digit))?;
    }
    Some(if negative { magnitude.wrapping_neg() } else { magnitude })
}

/// Appends `value` in decimal.
#[inline]
pub fn write_i64(out: &mut Vec<u8>, value: i64) {
    out.extend_from_slice(itoa::Buffer::new().format(value).as_bytes());
}

/// Parses `text` as Redis parses a score or any other double: all of it must be what `strtod`
/// takes. `None` for leading space, trailing junk, NaN, and finite texts beyond the range of a
/// double in either direction (`1e400`, `1e-400`); subnormal results and `inf` are fine.
/// O(length); rounds to nearest, ties to even.
#[must_use]
pub fn parse_f64(text: &[u8]) -> Option<f64> {
    if let Some(value) = parse_f64_small(text) {
        return Some(value);
    }
    let FloatText { negative, form } = FloatText::scan(text)?;
    let magnitude = match form {
        FloatForm::Infinity => f64::INFINITY,
        FloatForm::Decimal(number) => decimal_to_f64(&number)?,
        FloatForm::Hexadecimal(number) => hexadecimal_to_f64(&number)?,
    };
    Some(if negative { -magnitude } else { magnitude })
}

/// The usual scores: plain integers of up to 15 digits, which a double holds exactly.
fn parse_f64_small(text: &[u8]) -> Option<f64> {
    if text.len() > 15 {
        return None;
    }
    // Below 10^15 < 2^53, so the conversion is exact.
    parse_i64(text).map(|value| value as f64)
}

/// Appends `value` as C's `%.17g` prints it, the form of doubles in replies of both protocol
/// versions: 17 significant digits, exact value rounded half to even, trailing zeros dropped,
/// an exponent below 1e-4 and from 1e17 on; `inf`, `-inf`, `nan`, `-nan`.
pub fn write_f64(out: &mut Vec<u8>, value: f64) {
    /// Below this, integers print as themselves: their digits fit 17 places.
    const PLAIN_INTEGER_LIMIT: f64 = 1e15;
    if value.is_sign_negative() {
        out.push(b'-');
    }
    let value = value.abs();
    if value.is_nan() {
        out.extend_from_slice(b"nan");
    } else if value.is_infinite() {
        out.extend_from_slice(b"inf");
    } else if value < PLAIN_INTEGER_LIMIT && value.trunc() == value {
        write_i64(out, value as i64);
    } else {
        write_general(out, value);
    }
}

/// `%.17g` of a finite, positive value.
fn write_general(out: &mut Vec<u8>, value: f64) {
    const PRECISION: i32 = 17;
    // The text is `d.dddddddddddddddde-ddd`, at most 23 bytes.
    let mut scientific = [0_u8; 24];
    let mut free = &mut scientific[..];
    write!(free, "{value:.16e}").expect("24 bytes hold every double at 17 digits");
    let free = free.len();
    let (mantissa, exponent) = scientific[..scientific.len() - free].split_at(18);
    let exponent = exponent.get(1..).and_then(parse_i64).unwrap_or(0) as i32;
    let mut digits = [0_u8; PRECISION as usize];
    digits[0] = mantissa[0];
    digits[1..].copy_from_slice(&mantissa[2..]);
    let zeros = digits[1..].iter().rev().take_while(|&&digit| digit == b'0').count();
    let significant = digits.len() - zeros;
    if (0..PRECISION).contains(&exponent) {
        let whole = exponent as usize + 1;
        write_with_point(out, &digits[..significant.max(whole)], whole);
    } else if (-4..0).contains(&exponent) {
        out.extend_from_slice(b"0.");
        out.resize(out.len() + exponent.unsigned_abs() as usize - 1, b'0');
        out.extend_from_slice(&digits[..significant]);
    } else {
        write_with_point(out, &digits[..significant], 1);
        out.push(b'e');
        out.push(if exponent < 0 { b'-' } else { b'+' });
        let exponent = exponent.unsigned_abs();
        if exponent < 10 {
            out.push(b'0');
        }
        write_i64(out, i64::from(exponent));
    }
}

/// Appends `digits` with a point after the first `whole` of them, if any follow.
fn write_with_point(out: &mut Vec<u8>, digits: &[u8], whole: usize) {
    let (before, after) = digits.split_at(whole);
    out.extend_from_slice(before);
    if !after.is_empty() {
        out.push(b'.');
        out.extend_from_slice(after);
    }
}

/// A text of the grammar that C's `strtod` and `strtold` take, NaN excepted, cut into its parts.
#[derive(Debug, PartialEq)]
pub(super) struct FloatText<'a> {
    pub(super) negative: bool,
    pub(super) form: FloatForm<'a>,
}

#[derive(Debug, PartialEq)]
pub(super) enum FloatForm<'a> {
    Infinity,
    Decimal(FloatParts<'a>),
    Hexadecimal(FloatParts<'a>),
}

/// Digits of either base: the value is `whole.fraction` times 10 or 2 to the `exponent`.
#[derive(Debug, PartialEq)]
pub(super) struct FloatParts<'a> {
    /// Digits before the point, leading zeros removed.
    pub(super) whole: &'a [u8],
    /// Digits after the point.
    pub(super) fraction: &'a [u8],
    /// Power of the base in decimal, of two in hexadecimal. Saturates far outside every range
    /// (at `±EXPONENT_LIMIT`), so that sums with lengths cannot overflow.
    pub(super) exponent: i64,
}

/// Larger than the length of any text in memory, yet far from overflow.
const EXPONENT_LIMIT: i64 = 1 << 56;

impl<'a> FloatText<'a> {
    /// Cuts `text` into its parts; `None` if it is not such a number from first to last byte.
    pub(super) fn scan(text: &'a [u8]) -> Option<FloatText<'a>> {
        let (negative, rest) = match text {
            [b'-', rest @ ..] => (true, rest),
            [b'+', rest @ ..] => (false, rest),
            _ => (false, text),
        };
        let form = if rest.eq_ignore_ascii_case(b"inf") || rest.eq_ignore_ascii_case(b"infinity") {
            FloatForm::Infinity
        } else if let [b'0', b'x' | b'X', digits @ ..] = rest {
            FloatForm::Hexadecimal(FloatParts::scan(digits, u8::is_ascii_hexdigit, b'p')?)
        } else {
            FloatForm::Decimal(FloatParts::scan(rest, u8::is_ascii_digit, b'e')?)
        };
        Some(FloatText { negative, form })
    }
}

impl<'a> FloatParts<'a> {
    fn scan(text: &'a [u8], is_digit: fn(&u8) -> bool, exponent_mark: u8) -> Option<Self> {
        let (whole, rest) = split_digits(text, is_digit);
        let (fraction, rest) = match rest {
            [b'.', rest @ ..] => split_digits(rest, is_digit),
            _ => (&rest[..0], rest),
        };
        if whole.is_empty() && fraction.is_empty() {
            return None;
        }
        let exponent = match rest {
            [] => 0,
            [mark, exponent @ ..] if mark.to_ascii_lowercase() == exponent_mark => {
                scan_exponent(exponent)?
            }
            _ => return None,
        };
        let zeros = whole.iter().take_while(|&&digit| digit == b'0').count();
        Some(FloatParts { whole: &whole[zeros..], fraction, exponent })
    }

    /// All digits from the first to the last that is not zero, and the power of the base that the
    /// last of them stands for, the exponent left aside. No digits for the number zero.
    fn significant(&self) -> (impl Iterator<Item = u8> + Clone + use<'a>, usize, i64) {
        let is_zero = |digit: &&u8| **digit == b'0';
        let (mut whole, mut fraction) = (self.whole, self.fraction);
        fraction = &fraction[..fraction.len() - fraction.iter().rev().take_while(is_zero).count()];
        let mut power = -(fraction.len() as i64);
        if fraction.is_empty() {
            let zeros = whole.iter().rev().take_while(is_zero).count();
            whole = &whole[..whole.len() - zeros];
            power = zeros as i64;
        }
        if whole.is_empty() {
            fraction = &fraction[fraction.iter().take_while(is_zero).count()..];
        }
        (whole.iter().chain(fraction).copied(), whole.len() + fraction.len(), power)
    }

    /// The number as an integer times a power of ten: its significant digits, how many they are,
    /// and that power. No digits for zero.
    pub(super) fn decimal(&self) -> (impl Iterator<Item = u8> + Clone + use<'a>, usize, i64) {
        let (digits, count, power) = self.significant();
        (digits, count, power + self.exponent)
    }

    /// The number as `mantissa * 2^power`, and whether bits below the mantissa were dropped; at
    /// least 117 bits are kept then. A mantissa of 0 is the number zero.
    pub(super) fn binary(&self) -> (u128, i64, bool) {
        /// Hexadecimal digits that a u128 holds with room for rounding.
        const KEPT_DIGITS: usize = 30;
        let (digits, count, power) = self.significant();
        let mantissa = digits
            .take(KEPT_DIGITS)
            .filter_map(|digit| char::from(digit).to_digit(16))
            .fold(0_u128, |mantissa, digit| mantissa << 4 | u128::from(digit));
        let dropped = count.saturating_sub(KEPT_DIGITS);
        // The last significant digit is not zero, so dropped digits are never all zero.
        (mantissa, (power + dropped as i64) * 4 + self.exponent, dropped > 0)
    }
}

fn split_digits(text: &[u8], is_digit: fn(&u8) -> bool) -> (&[u8], &[u8]) {
    text.split_at(text.iter().take_while(|byte| is_digit(byte)).count())
}

/// Digits with an optional sign, saturating at `±EXPONENT_LIMIT`.
fn scan_exponent(text: &[u8]) -> Option<i64> {
    let (negative, digits) = match text {
        [b'-', rest @ ..] => (true, rest),
        [b'+', rest @ ..] => (false, rest),
        _ => (false, text),
    };
    if digits.is_empty() || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let magnitude = digits.iter().fold(0_i64, |magnitude, &digit| {
        (magnitude * 10 + i64::from(digit - b'0')).min(EXPONENT_LIMIT)
    });
    Some(if negative { -magnitude } else { magnitude })
}

/// The nearest double; `None` if that is infinite, or zero for digits that are not.
fn decimal_to_f64(number: &FloatParts<'_>) -> Option<f64> {
    /// Digits that decide between two doubles; of what follows only whether it is zero matters.
    const DECIDING_DIGITS: usize = 770;
    let (digits, count, power) = number.decimal();
    if count == 0 {
        return Some(0.0);
    }
    // The standard library saturates exponents and counts digits in its own way; what it is
    // given here stays far inside its limits, whatever the length of the input.
    let magnitude = power + count as i64;
    if !(-400..=400).contains(&magnitude) {
        return None;
    }
    let mut text: String = digits.take(DECIDING_DIGITS).map(char::from).collect();
    let mut power = power;
    if count > DECIDING_DIGITS {
        // The last of the dropped digits is not zero: stand in for them with one that is not.
        text.push('1');
        power += (count - DECIDING_DIGITS - 1) as i64;
    }
    text.push('e');
    text.push_str(itoa::Buffer::new().format(power));
    text.parse::<f64>().ok().filter(|value| value.is_finite() && *value != 0.0)
}

/// As [`decimal_to_f64`], for base 16.
fn hexadecimal_to_f64(number: &FloatParts<'_>) -> Option<f64> {
    const MANTISSA_BITS: u32 = f64::MANTISSA_DIGITS;
    const MIN_POWER: i64 = -1074;
    const MAX_POWER: i64 = 1023 - (MANTISSA_BITS as i64 - 1);
    let (mantissa, power, dropped) = number.binary();
    if mantissa == 0 {
        return Some(0.0);
    }
    let (mantissa, power) = round_binary(mantissa, power, dropped, MANTISSA_BITS, MIN_POWER);
    if mantissa == 0 || power > MAX_POWER {
        return None;
    }
    let implicit_bit = 1 << (MANTISSA_BITS - 1);
    // A mantissa without the implicit bit is subnormal, and its exponent field is zero.
    let field = if mantissa < implicit_bit { 0 } else { (power - MIN_POWER + 1) as u64 };
    Some(f64::from_bits(field << (MANTISSA_BITS - 1) | mantissa & (implicit_bit - 1)))
}

/// Rounds `mantissa * 2^power` (plus something below the last bit if `dropped`) to `bits` bits,
/// half to even, and to a power no smaller than `min_power`. The result has exactly `bits` bits,
/// or fewer at `min_power` (subnormal, or zero). `mantissa` must not be zero; with `dropped` it
/// must have more than `bits + 1` bits.
pub(super) fn round_binary(
    mantissa: u128,
    power: i64,
    dropped: bool,
    bits: u32,
    min_power: i64,
) -> (u64, i64) {
    let length = i64::from(u128::BITS - mantissa.leading_zeros());
    let shift = (length - i64::from(bits)).max(min_power - power);
    if shift <= 0 {
        // Fits as it is; normalise. The shift is at most `bits`, which is at most 64.
        return ((mantissa << -shift) as u64, power + shift);
    }
    if shift > length {
        // Below half of the smallest number.
        return (0, min_power);
    }
    let kept = if shift < 128 { mantissa >> shift } else { 0 };
    let half = 1_u128 << (shift - 1);
    let rest = mantissa & (half | (half - 1));
    let up = match rest.cmp(&half) {
        std::cmp::Ordering::Less => false,
        std::cmp::Ordering::Equal => dropped || kept & 1 == 1,
        std::cmp::Ordering::Greater => true,
    };
    let rounded = kept + u128::from(up);
    if rounded >> bits != 0 {
        ((rounded >> 1) as u64, power + shift + 1)
    } else {
        (rounded as u64, power + shift)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn printed(value: f64) -> String {
        let mut out = Vec::new();
        write_f64(&mut out, value);
        String::from_utf8(out).expect("ASCII")
    }

    #[test]
    fn integers_have_one_spelling() {
        for (text, value) in [
            ("0", 0),
            ("7", 7),
            ("-7", -7),
            ("10", 10),
            ("9223372036854775807", i64::MAX),
            ("-9223372036854775808", i64::MIN),
        ] {
            assert_eq!(parse_i64(text.as_bytes()), Some(value), "{text}");
        }
        for text in [
            "",
            "-",
            "+",
            "+1",
            "-0",
            "00",
            "01",
            "-01",
            " 1",
            "1 ",
            "1\0",
            "--1",
            "1.0",
            "1e3",
            "0x1",
            "9223372036854775808",
            "-9223372036854775809",
            "9999999999999999999",
            "99999999999999999999",
            "123456789012345678901234567890",
            "12345678901234567a",
            "/",
            ":",
            "1:",
            "1/",
        ] {
            assert_eq!(parse_i64(text.as_bytes()), None, "{text:?}");
        }
    }

    #[test]
    fn cursors_are_read_as_strtoul_does() {
        for (text, value) in [
            ("", 0),
            ("0", 0),
            ("-0", 0),
            ("+5", 5),
            ("007", 7),
            ("-1", u64::MAX),
            ("18446744073709551615", u64::MAX),
            ("-18446744073709551615", 1),
            ("1\0z", 1),
            ("\0", 0),
        ] {
            assert_eq!(parse_cursor(text.as_bytes()), Some(value), "{text:?}");
        }
        for text in ["-", "+", "-\0", " 1", "1 ", "a", "1a", "18446744073709551616", "+-1"] {
            assert_eq!(parse_cursor(text.as_bytes()), None, "{text:?}");
        }
    }

    /// Pairs of a text and what redis-server 7.0.15 printed for it as a score.
    #[test]
    fn scores_are_read_and_printed_as_redis_does() {
        for (text, shown) in [
            ("0.1", "0.10000000000000001"),
            ("3.14", "3.1400000000000001"),
            ("inf", "inf"),
            ("-inf", "-inf"),
            ("+inf", "inf"),
            ("INFINITY", "inf"),
            ("0x10", "16"),
            ("0X1P3", "8"),
            ("0x1p-3", "0.125"),
            ("0x.8", "0.5"),
            ("1.", "1"),
            (".5", "0.5"),
            ("1E5", "100000"),
            ("1e+5", "100000"),
            ("-0", "-0"),
            ("0e99999", "0"),
            ("0x0p999999999999999999999999", "0"),
            ("1e20", "1e+20"),
            ("1e300", "1.0000000000000001e+300"),
            ("123456789012345.125", "123456789012345.12"),
            ("123456789012345.375", "123456789012345.38"),
            ("12345678901234567", "12345678901234568"),
            ("100000000000000000", "1e+17"),
            ("10000000000000000", "10000000000000000"),
            ("-1000000000000000", "-1000000000000000"),
            ("999999999999999", "999999999999999"),
            ("0.0001", "0.0001"),
            ("-0.00025", "-0.00025000000000000001"),
            ("0.00001", "1.0000000000000001e-05"),
            ("5e-324", "4.9406564584124654e-324"),
            ("1e-320", "9.9998886718268301e-321"),
            ("2.4703282292062328e-324", "4.9406564584124654e-324"),
            ("0x1.8p-1075", "4.9406564584124654e-324"),
            ("0x1.fffffffffffff7p1023", "1.7976931348623157e+308"),
        ] {
            let value = parse_f64(text.as_bytes()).unwrap_or_else(|| panic!("{text} refused"));
            assert_eq!(printed(value), shown, "{text}");
        }
    }

    #[test]
    fn what_is_no_score_is_refused() {
        for text in [
            "",
            " 1",
            "1 ",
            "\t1",
            "1\n",
            "1\0",
            "nan",
            "-nan",
            "nan(12)",
            "infinit",
            "inf ",
            "+-1",
            ".",
            "-",
            "e5",
            ".e5",
            "1e",
            "1e+",
            "1e 5",
            "1e5.5",
            "1_0",
            "1d5",
            "0x",
            "0x.",
            "0x.p1",
            "0x1p",
            "0xg",
            "1p3",
            "1e400",
            "-1e400",
            "1e-400",
            "2.4703282292062327e-324",
            "0x1p-1075",
            "0x1p1024",
            "0x1.fffffffffffff8p1023",
            "1e99999999999999999999999999",
            "1e-99999999999999999999999999",
            "0x1p99999999999999999999999999",
        ] {
            assert_eq!(parse_f64(text.as_bytes()), None, "{text:?}");
        }
    }

    #[test]
    fn length_does_not_change_the_value() {
        let zeros = "0".repeat(700_000);
        assert_eq!(parse_f64(format!("0.{zeros}1e700001").as_bytes()), Some(1.0));
        assert_eq!(parse_f64(format!("1{zeros}e-700000").as_bytes()), Some(1.0));
        assert_eq!(parse_f64(format!("0x1{zeros}p-2800000").as_bytes()), Some(1.0));
        // Halfway between two doubles, and a hair above.
        let half = "9007199254740993";
        assert_eq!(parse_f64(format!("{half}.{zeros}").as_bytes()), Some(9_007_199_254_740_992.0));
        assert_eq!(parse_f64(format!("{half}.{zeros}1").as_bytes()), Some(9_007_199_254_740_994.0));
        assert_eq!(parse_f64(format!("0x20000000000001.{zeros}").as_bytes()), Some(2_f64.powi(53)));
        assert_eq!(
            parse_f64(format!("0x20000000000001.{zeros}1").as_bytes()),
            Some(2_f64.powi(53) + 2.0)
        );
    }

    proptest! {
        #[test]
        fn every_integer_survives_the_round_trip(value: i64) {
            let mut out = Vec::new();
            write_i64(&mut out, value);
            prop_assert_eq!(parse_i64(&out), Some(value));
        }

        #[test]
        fn every_double_survives_the_round_trip(bits: u64) {
            let value = f64::from_bits(bits);
            prop_assume!(!value.is_nan());
            let text = printed(value);
            prop_assert_eq!(parse_f64(text.as_bytes()).map(f64::to_bits), Some(bits), "{}", text);
        }

        /// The standard library rounds an integer to a double once; scaling by a power of two
        /// inside the normal range is exact.
        #[test]
        fn hexadecimal_agrees_with_the_value_it_spells(mantissa: u64, power in -1000_i32..900) {
            let text = format!("0x{mantissa:x}p{power}");
            let value = mantissa as f64 * 2_f64.powi(power);
            prop_assert_eq!(parse_f64(text.as_bytes()), Some(value));
        }

        #[test]
        fn arbitrary_bytes_never_panic(text: Vec<u8>) {
            let _ = parse_i64(&text);
            let _ = parse_f64(&text);
            let _ = parse_cursor(&text);
        }
    }
}
