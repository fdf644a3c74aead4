//! The 80-bit extended floating point of x87, which C on x86-64 calls `long double` and Redis
//! uses in INCRBYFLOAT, in integer arithmetic: parse, add, print.
//!
//! Every operation is exact and then rounded once, to nearest with ties to even, so results are
//! those of the hardware and of glibc's `strtold` and `printf("%.17Lf")`, on every processor.

use super::number::{FloatForm, FloatParts, FloatText, round_binary};
use std::cmp::Ordering;

/// Bits of the significand; x87 stores the leading one too.
const MANTISSA_BITS: u32 = 64;
/// Power of two of the last bit of the smallest (subnormal) numbers.
const MIN_POWER: i32 = -16_445;
/// Power of two of the last bit of the largest numbers.
const MAX_POWER: i32 = 16_383 - 63;
/// Redis refuses texts of this many bytes and more (its `MAX_LONG_DOUBLE_CHARS`). It also bounds
/// the work: the longest accepted text costs less than a millisecond.
const MAX_TEXT_BYTES: usize = 5 * 1024;

/// A number of x87's extended precision, NaN excepted: 64 bits of significand, powers of two
/// from -16445 to 16383, signed zeros, infinities.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct F80 {
    negative: bool,
    magnitude: Magnitude,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Magnitude {
    /// `mantissa * 2^power`.
    ///
    /// Invariant: `power` lies in `MIN_POWER..=MAX_POWER`, and the mantissa's top bit is set
    /// unless `power` is `MIN_POWER`; so each number has one form.
    Finite {
        mantissa: u64,
        power: i32,
    },
    Infinite,
}

impl F80 {
    /// Positive zero.
    pub const ZERO: F80 = F80::zero(false);

    const fn zero(negative: bool) -> F80 {
        F80 { negative, magnitude: Magnitude::Finite { mantissa: 0, power: MIN_POWER } }
    }

    /// Parses `text` as Redis does for INCRBYFLOAT: all of it must be what `strtold` takes
    /// (decimal, hexadecimal, `inf`) and be shorter than 5 KiB. `None` for leading space,
    /// trailing junk, NaN, and finite texts beyond the range in either direction (`1e5000`,
    /// `1e-5000`). Some 70 ns for usual numbers, below a millisecond for the worst.
    #[must_use]
    pub fn parse(text: &[u8]) -> Option<F80> {
        if text.len() >= MAX_TEXT_BYTES {
            return None;
        }
        let FloatText { negative, form } = FloatText::scan(text)?;
        match form {
            FloatForm::Infinity => Some(F80 { negative, magnitude: Magnitude::Infinite }),
            FloatForm::Decimal(number) => from_decimal(negative, &number),
            FloatForm::Hexadecimal(number) => {
                let (mantissa, power, dropped) = number.binary();
                if mantissa == 0 {
                    return Some(F80::zero(negative));
                }
                in_range(round(negative, mantissa, power, dropped))
            }
        }
    }

    /// The same number in extended precision; exact.
    #[must_use]
    pub fn from_i64(value: i64) -> F80 {
        if value == 0 {
            return F80::ZERO;
        }
        round(value < 0, u128::from(value.unsigned_abs()), 0, false)
    }

    /// The same number in extended precision, exact; `None` for NaN.
    #[must_use]
    pub fn from_f64(value: f64) -> Option<F80> {
        /// Power of two of a subnormal double's last bit.
        const MIN_DOUBLE_POWER: i64 = -1074;
        const FRACTION_BITS: u32 = f64::MANTISSA_DIGITS - 1;
        let negative = value.is_sign_negative();
        if value.is_nan() {
            return None;
        } else if value.is_infinite() {
            return Some(F80 { negative, magnitude: Magnitude::Infinite });
        } else if value == 0.0 {
            return Some(F80::zero(negative));
        }
        let bits = value.to_bits();
        let fraction = bits & ((1 << FRACTION_BITS) - 1);
        let field = (bits >> FRACTION_BITS & 0x7ff) as i64;
        let implicit = if field == 0 { 0 } else { 1 << FRACTION_BITS };
        let power = MIN_DOUBLE_POWER + (field - 1).max(0);
        Some(round(negative, u128::from(fraction | implicit), power, false))
    }

    /// The sum, rounded to nearest, ties to even; `None` if it is infinite or not a number,
    /// which Redis answers with `ERR increment would produce NaN or Infinity`. O(1).
    #[must_use]
    pub fn checked_add(self, other: F80) -> Option<F80> {
        let Magnitude::Finite { mantissa: a, power: a_power } = self.magnitude else { return None };
        let Magnitude::Finite { mantissa: b, power: b_power } = other.magnitude else {
            return None;
        };
        if (b_power, b) > (a_power, a) {
            return other.checked_add(self);
        }
        // From here |self| >= |other|. Both are widened by so many bits that what the shift drops
        // lies far below every bit that rounding looks at.
        const GUARD_BITS: u32 = 62;
        let large = u128::from(a) << GUARD_BITS;
        let small = u128::from(b) << GUARD_BITS;
        let distance = a_power.abs_diff(b_power);
        let aligned = if distance < u128::BITS { small >> distance } else { 0 };
        let dropped = distance.min(u128::BITS - 1) > small.trailing_zeros();
        let total = if self.negative == other.negative {
            large + aligned
        } else {
            // What was dropped belongs to the subtrahend: the difference lies just below.
            large - aligned - u128::from(dropped)
        };
        if total == 0 {
            return Some(F80::zero(self.negative && other.negative));
        }
        let power = i64::from(a_power) - i64::from(GUARD_BITS);
        let sum = round(self.negative, total, power, dropped);
        (sum.magnitude != Magnitude::Infinite).then_some(sum)
    }

    /// Appends the number as Redis shows it to people (INCRBYFLOAT, GEOPOS): `%.17Lf`, that is
    /// 17 decimals of the exact value, without trailing zeros; zero is never negative. Numbers
    /// below 2^64 take some 50 ns, the largest (4,933 digits) a fraction of a millisecond.
    pub fn write_human(self, out: &mut Vec<u8>) {
        let Magnitude::Finite { mantissa, power } = self.magnitude else {
            out.extend_from_slice(if self.negative { b"-inf" } else { b"inf" });
            return;
        };
        let start = out.len();
        if self.negative {
            out.push(b'-');
        }
        let digits = out.len();
        match u32::try_from(power) {
            Ok(shift) if shift <= 64 => {
                let whole = u128::from(mantissa) << shift;
                out.extend_from_slice(itoa::Buffer::new().format(whole).as_bytes());
            }
            Ok(shift) => {
                let mut whole = Big::from_u64(mantissa);
                whole.shift_left(shift);
                whole.write_decimal(out);
            }
            Err(_) => write_with_fraction(out, mantissa, power.unsigned_abs()),
        }
        if out[digits..] == *b"0" {
            out.truncate(start);
            out.push(b'0');
        }
    }
}

/// Appends `mantissa / 2^shift` with at most 17 decimals.
fn write_with_fraction(out: &mut Vec<u8>, mantissa: u64, shift: u32) {
    const DECIMALS: usize = 17;
    const UNIT: u128 = 10_u128.pow(DECIMALS as u32);
    // 2^64 * 10^17 is below 2^121: from a shift of 122 on the value is below half a unit.
    const VANISHED: u32 = 122;
    if shift >= VANISHED {
        out.push(b'0');
        return;
    }
    let mantissa = u128::from(mantissa);
    let mut whole = mantissa >> shift;
    let scaled = (mantissa & ((1 << shift) - 1)) * UNIT;
    let mut decimals = scaled >> shift;
    let rest = scaled & ((1 << shift) - 1);
    // `shift` is at least 1, since a power that is not negative has no fraction.
    match rest.cmp(&(1 << (shift - 1))) {
        Ordering::Less => {}
        Ordering::Equal => decimals += decimals & 1,
        Ordering::Greater => decimals += 1,
    }
    if decimals == UNIT {
        whole += 1;
        decimals = 0;
    }
    let mut buffer = itoa::Buffer::new();
    out.extend_from_slice(buffer.format(whole).as_bytes());
    if decimals != 0 {
        out.push(b'.');
        let digits = buffer.format(decimals).as_bytes();
        out.resize(out.len() + DECIMALS - digits.len(), b'0');
        out.extend_from_slice(digits);
        let zeros = digits.iter().rev().take_while(|&&digit| digit == b'0').count();
        out.truncate(out.len() - zeros);
    }
}

/// The number nearest to `mantissa * 2^power`, plus something below the last bit if `dropped`.
/// `mantissa` is not zero, and has bits to spare if `dropped`.
fn round(negative: bool, mantissa: u128, power: i64, dropped: bool) -> F80 {
    let (mantissa, power) =
        round_binary(mantissa, power, dropped, MANTISSA_BITS, i64::from(MIN_POWER));
    let magnitude = match i32::try_from(power) {
        Ok(power) if power <= MAX_POWER => Magnitude::Finite { mantissa, power },
        _ => Magnitude::Infinite,
    };
    F80 { negative, magnitude }
}

/// C's ERANGE as Redis reads it: refuses what digits other than zero became infinite or zero.
fn in_range(value: F80) -> Option<F80> {
    match value.magnitude {
        Magnitude::Infinite | Magnitude::Finite { mantissa: 0, .. } => None,
        Magnitude::Finite { .. } => Some(value),
    }
}

/// The nearest number to a decimal text, or `None` if that is out of range.
fn from_decimal(negative: bool, number: &FloatParts<'_>) -> Option<F80> {
    /// Below 2^60, so that a quotient by it of a number of 128 bits keeps 68 bits.
    const SMALL_POWERS: i64 = 18;
    /// No number reaches 10^4933, and half of the smallest one exceeds 10^-4951.
    const MAGNITUDES: std::ops::RangeInclusive<i64> = -4_950..=4_933;
    let (digits, count, power) = number.decimal();
    if count == 0 {
        return Some(F80::zero(negative));
    }
    if !MAGNITUDES.contains(&(power + count as i64)) {
        return None;
    }
    // The range of magnitudes and the length of the text bound the power of ten now.
    let divisor_power = u32::try_from(-power).unwrap_or(0);
    let factor_power = u32::try_from(power).unwrap_or(0);
    let rounded = if count <= 19 && (-SMALL_POWERS..=0).contains(&power) {
        let value = digits.fold(0_u64, |value, digit| value * 10 + u64::from(digit - b'0'));
        let divisor = 10_u128.pow(divisor_power);
        let shift = value.leading_zeros() + 64;
        let widened = u128::from(value) << shift;
        round(negative, widened / divisor, -i64::from(shift), widened % divisor != 0)
    } else {
        let mut value = Big::from_digits(digits);
        value.multiply_by_power_of_five(factor_power);
        let (quotient, quotient_power, dropped) = if divisor_power == 0 {
            value.leading_bits()
        } else {
            let mut divisor = Big::from_u64(1);
            divisor.multiply_by_power_of_five(divisor_power);
            value.quotient(divisor)
        };
        round(negative, quotient, quotient_power + power, dropped)
    };
    in_range(rounded)
}

/// A natural number of any size: as much arithmetic as exact conversion between bases needs.
#[derive(Debug)]
struct Big {
    /// Least significant first.
    ///
    /// Invariant: the last limb is not zero, so zero has no limbs.
    limbs: Vec<u32>,
}

const LIMB_BITS: u32 = u32::BITS;

impl Big {
    fn from_u64(value: u64) -> Big {
        let mut big = Big { limbs: vec![value as u32, (value >> LIMB_BITS) as u32] };
        big.trim();
        big
    }

    /// Reads ASCII digits.
    fn from_digits(digits: impl Iterator<Item = u8>) -> Big {
        const CHUNK_DIGITS: u32 = 9;
        let mut big = Big { limbs: Vec::new() };
        let (mut chunk, mut unit) = (0_u32, 1_u32);
        for digit in digits {
            chunk = chunk * 10 + u32::from(digit - b'0');
            unit *= 10;
            if unit == 10_u32.pow(CHUNK_DIGITS) {
                big.multiply_add(unit, chunk);
                (chunk, unit) = (0, 1);
            }
        }
        big.multiply_add(unit, chunk);
        big
    }

    fn trim(&mut self) {
        while self.limbs.last() == Some(&0) {
            self.limbs.pop();
        }
    }

    fn bit_length(&self) -> u32 {
        match self.limbs.last() {
            Some(last) => self.limbs.len() as u32 * LIMB_BITS - last.leading_zeros(),
            None => 0,
        }
    }

    /// `self * factor + addend`; `factor` is not zero.
    fn multiply_add(&mut self, factor: u32, addend: u32) {
        let mut carry = u64::from(addend);
        for limb in &mut self.limbs {
            carry += u64::from(*limb) * u64::from(factor);
            *limb = carry as u32;
            carry >>= LIMB_BITS;
        }
        if carry != 0 {
            self.limbs.push(carry as u32);
        }
    }

    fn multiply_by_power_of_five(&mut self, exponent: u32) {
        /// The largest power of five in a limb.
        const CHUNK: u32 = 13;
        for _ in 0..exponent / CHUNK {
            self.multiply_add(5_u32.pow(CHUNK), 0);
        }
        self.multiply_add(5_u32.pow(exponent % CHUNK), 0);
    }

    fn shift_left(&mut self, bits: u32) {
        let within = bits % LIMB_BITS;
        if within > 0 {
            self.multiply_add(1 << within, 0);
        }
        if !self.limbs.is_empty() {
            let limbs = (bits / LIMB_BITS) as usize;
            self.limbs.splice(0..0, std::iter::repeat_n(0, limbs));
        }
    }

    /// The top 128 bits (fewer if there are no more), the power of two of the last of them, and
    /// whether any bit below is set.
    fn leading_bits(&self) -> (u128, i64, bool) {
        let first = self.limbs.len().saturating_sub(4);
        let (below, top) = self.limbs.split_at(first);
        let bits = top.iter().rev().fold(0, |bits, &limb| bits << LIMB_BITS | u128::from(limb));
        (bits, first as i64 * i64::from(LIMB_BITS), below.iter().any(|&limb| limb != 0))
    }

    fn is_at_least(&self, other: &Big) -> bool {
        match self.limbs.len().cmp(&other.limbs.len()) {
            Ordering::Equal => self.limbs.iter().rev().ge(other.limbs.iter().rev()),
            unequal => unequal.is_gt(),
        }
    }

    /// `self - other`, which must not be larger.
    fn subtract(&mut self, other: &Big) {
        let mut borrow = false;
        for (index, limb) in self.limbs.iter_mut().enumerate() {
            let subtrahend = other.limbs.get(index).copied().unwrap_or(0);
            let (difference, first) = limb.overflowing_sub(subtrahend);
            let (difference, second) = difference.overflowing_sub(u32::from(borrow));
            *limb = difference;
            borrow = first || second;
        }
        debug_assert!(!borrow, "subtracted the larger number");
        self.trim();
    }

    /// The leading bits of `self / divisor` (neither is zero), more than `MANTISSA_BITS + 1` of
    /// them, the power of two of the last one, and whether the rest is not zero. Long division,
    /// bit by bit.
    fn quotient(mut self, mut divisor: Big) -> (u128, i64, bool) {
        const QUOTIENT_BITS: u32 = MANTISSA_BITS + 4;
        // Align the leading bits, so that the first quotient bit or the second one is set.
        let (own, others) = (self.bit_length(), divisor.bit_length());
        self.shift_left(others.saturating_sub(own));
        divisor.shift_left(own.saturating_sub(others));
        let mut quotient = 0_u128;
        for _ in 0..QUOTIENT_BITS {
            quotient <<= 1;
            if self.is_at_least(&divisor) {
                self.subtract(&divisor);
                quotient |= 1;
            }
            self.multiply_add(2, 0);
        }
        let power = i64::from(own) - i64::from(others) - i64::from(QUOTIENT_BITS - 1);
        (quotient, power, !self.limbs.is_empty())
    }

    /// Appends the number in decimal.
    fn write_decimal(mut self, out: &mut Vec<u8>) {
        const CHUNK_DIGITS: usize = 9;
        const CHUNK: u64 = 10_u64.pow(CHUNK_DIGITS as u32);
        let mut chunks = Vec::new();
        while !self.limbs.is_empty() {
            let mut rest = 0_u64;
            for limb in self.limbs.iter_mut().rev() {
                rest = rest << LIMB_BITS | u64::from(*limb);
                *limb = (rest / CHUNK) as u32;
                rest %= CHUNK;
            }
            self.trim();
            chunks.push(rest);
        }
        let mut buffer = itoa::Buffer::new();
        let mut chunks = chunks.into_iter().rev();
        out.extend_from_slice(buffer.format(chunks.next().unwrap_or(0)).as_bytes());
        for chunk in chunks {
            let digits = buffer.format(chunk).as_bytes();
            out.resize(out.len() + CHUNK_DIGITS - digits.len(), b'0');
            out.extend_from_slice(digits);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn shown(number: F80) -> String {
        let mut out = Vec::new();
        number.write_human(&mut out);
        String::from_utf8(out).expect("ASCII")
    }

    /// What `SET k a`, `INCRBYFLOAT k b` answers.
    fn increment(a: &str, b: &str) -> String {
        match (F80::parse(a.as_bytes()), F80::parse(b.as_bytes())) {
            (Some(a), Some(b)) => a.checked_add(b).map_or("NaN or Infinity".into(), shown),
            _ => "not a valid float".into(),
        }
    }

    /// Every row was answered so by redis-server 7.0.15 on x86-64.
    #[test]
    fn sums_are_those_of_redis() {
        for (a, b, sum) in [
            ("0", "0", "0"),
            ("-0", "-0", "0"),
            ("10.50", "0.1", "10.6"),
            ("3.0e3", "200", "3200"),
            ("5.0e3", "2.0e2", "5200"),
            ("0.1", "0.2", "0.3"),
            ("0x1p-3", "0", "0.125"),
            ("0x1.8p3", "-.5", "11.5"),
            ("1", "-1", "0"),
            ("-1.5", "0", "-1.5"),
            ("1e17", "0.1", "100000000000000000.1015625"),
            ("9223372036854775807", "1", "9223372036854775808"),
            ("18446744073709551615", "1", "18446744073709551616"),
            ("36893488147419103233", "0", "36893488147419103232"),
            // Ties, and a hair above and below, where the hair is far below the last place.
            ("18446744073709551616", "1", "18446744073709551616"),
            ("18446744073709551618", "1", "18446744073709551620"),
            ("18446744073709551616", "0x1.0000000000000002p0", "18446744073709551618"),
            ("18446744073709551620", "-0x1.0000000000000002p0", "18446744073709551618"),
            ("18446744073709551618", "-1", "18446744073709551616"),
            ("18446744073709551618", "-0x1.fffffffffffffffep-1", "18446744073709551618"),
            ("18446744073709551616", "-1e-4940", "18446744073709551616"),
            ("9223372036854775809", "-0x.8p-64", "9223372036854775809"),
            ("12345678901234567890123", "0", "12345678901234567889920"),
            ("1e-17", "0", "0.00000000000000001"),
            ("5e-18", "0", "0"),
            ("4.9e-18", "0", "0"),
            ("-4.9e-18", "0", "0"),
            ("1.5e-17", "0", "0.00000000000000002"),
            ("2.5e-17", "0", "0.00000000000000002"),
            ("0.999999999999999995", "0", "1"),
            ("0.9999999999999999999", "0", "1"),
            ("3.6451995318824746025e-4951", "0", "0"),
            ("1e-4950", "1e-4950", "0"),
            ("1.18973149535723176502e+4932", "1.18973149535723176502e+4932", "NaN or Infinity"),
            ("inf", "1", "NaN or Infinity"),
            ("1", "-Infinity", "NaN or Infinity"),
            ("inf", "-inf", "NaN or Infinity"),
        ] {
            assert_eq!(increment(a, b), sum, "{a} + {b}");
            assert_eq!(increment(b, a), sum, "{b} + {a}");
        }
    }

    #[test]
    fn what_is_no_long_double_is_refused() {
        for text in [
            "",
            " 1",
            "1 ",
            "1\n",
            "nan",
            "nan(1)",
            "1e5000",
            "-1e5000",
            "1e4933",
            "1.18973149535723176508e+4932",
            "0x1p16384",
            "0x0.ffffffffffffffff8p16384",
            "1e-5000",
            "1.8e-4951",
            "0x1p-16446",
            "0x1p99999999999999999999",
            "1e-99999999999999999999",
            "0x",
            "1e",
            ".",
            "1,5",
        ] {
            assert_eq!(F80::parse(text.as_bytes()), None, "{text:?}");
        }
        assert_eq!(F80::parse("7".repeat(MAX_TEXT_BYTES).as_bytes()), None);
        let longest = format!("1.{}", "7".repeat(MAX_TEXT_BYTES - 3));
        assert_eq!(shown(F80::parse(longest.as_bytes()).expect("fits")), "1.77777777777777778");
    }

    #[test]
    fn the_ends_of_the_range_are_reached_and_not_passed() {
        let largest = F80::parse(b"1.18973149535723176502e+4932").expect("in range");
        assert_eq!(
            largest.magnitude,
            Magnitude::Finite { mantissa: u64::MAX, power: MAX_POWER },
            "the largest number"
        );
        let text = shown(largest);
        assert_eq!(text.len(), 4_933);
        assert!(text.starts_with("118973149535723176502126385303097020516906332229"));
        assert!(text.ends_with("19552086811989770240"), "{}", &text[4_900..]);
        assert_eq!(F80::parse(text.as_bytes()), Some(largest));
        // Half of the last place above is a tie that goes to infinity; less stays.
        assert_eq!(largest.checked_add(F80::parse(b"0x1p16319").expect("in range")), None);
        assert_eq!(largest.checked_add(F80::parse(b"0x1p16318").expect("in range")), Some(largest));

        let smallest = F80::parse(b"1.9e-4951").expect("rounds up to the smallest");
        assert_eq!(smallest.magnitude, Magnitude::Finite { mantissa: 1, power: MIN_POWER });
        assert_eq!(F80::parse(b"0x1p-16445"), Some(smallest));
        assert_eq!(F80::parse(b"0x.80000000000000001p-16445"), Some(smallest));
    }

    #[test]
    fn ties_go_to_even_whatever_the_length_of_the_text() {
        // 2^64 + 1 lies halfway between two numbers.
        let zeros = "0".repeat(4_000);
        for (text, value) in [
            ("18446744073709551617".to_owned(), "18446744073709551616"),
            ("18446744073709551619".to_owned(), "18446744073709551620"),
            (format!("18446744073709551617.{zeros}"), "18446744073709551616"),
            (format!("18446744073709551617.{zeros}1"), "18446744073709551618"),
            (format!("18446744073709551617{zeros}e-4000"), "18446744073709551616"),
            (format!("18446744073709551617{zeros}1e-4001"), "18446744073709551618"),
            // 2^192 + 2^128, and one more.
            (
                "6277101735386680764176071790128604879565730051895802724352".to_owned(),
                "6277101735386680763835789423207666416102355444464034512896",
            ),
            (
                "6277101735386680764176071790128604879565730051895802724353".to_owned(),
                "6277101735386680764516354157049543343029104659327570935808",
            ),
            (format!("0x10000000000000001.{zeros}"), "18446744073709551616"),
            (format!("0x10000000000000001.{zeros}1"), "18446744073709551618"),
        ] {
            let number = F80::parse(text.as_bytes()).expect("in range");
            assert_eq!(shown(number), value, "{text}");
        }
    }

    #[test]
    fn doubles_and_integers_convert_exactly() {
        assert_eq!(shown(F80::from_i64(i64::MIN)), "-9223372036854775808");
        assert_eq!(shown(F80::from_i64(i64::MAX)), "9223372036854775807");
        assert_eq!(shown(F80::from_f64(-0.0).expect("number")), "0");
        assert_eq!(shown(F80::from_f64(0.1).expect("number")), "0.10000000000000001");
        assert_eq!(shown(F80::from_f64(f64::NEG_INFINITY).expect("number")), "-inf");
        assert_eq!(F80::from_f64(5e-324), F80::parse(b"0x1p-1074"));
        assert_eq!(F80::from_f64(f64::MIN_POSITIVE), F80::parse(b"0x1p-1022"));
        assert_eq!(F80::from_f64(f64::MAX), F80::parse(b"0x1.fffffffffffffp1023"));
        assert_eq!(F80::from_f64(f64::NAN), None);
    }

    fn number() -> impl Strategy<Value = F80> {
        let power = prop_oneof![-80_i64..80, Just(i64::from(MIN_POWER)), -16_445_i64..16_320];
        (any::<bool>(), any::<u64>(), 0_u32..64, power).prop_map(
            |(negative, bits, fewer, power)| {
                round(negative, u128::from(bits >> fewer).max(1), power, false)
            },
        )
    }

    proptest! {
        /// A hexadecimal text spells a number exactly, by another road than the decimal one.
        #[test]
        fn decimal_and_hexadecimal_agree(mantissa: u64, power in -400_i64..400) {
            let hexadecimal = format!("0x{mantissa:x}p{power}");
            let mut big = Big::from_u64(mantissa);
            let mut decimal = Vec::new();
            if power >= 0 {
                big.shift_left(power as u32);
                big.write_decimal(&mut decimal);
            } else {
                big.multiply_by_power_of_five(power.unsigned_abs() as u32);
                big.write_decimal(&mut decimal);
                decimal.extend_from_slice(format!("e{power}").as_bytes());
            }
            let number = F80::parse(hexadecimal.as_bytes());
            prop_assert!(number.is_some());
            prop_assert_eq!(F80::parse(&decimal), number);
        }

        #[test]
        fn sums_commute_and_nothing_changes_by_zero(a in number(), b in number()) {
            prop_assert_eq!(a.checked_add(b), b.checked_add(a));
            if a.magnitude != Magnitude::Infinite {
                prop_assert_eq!(a.checked_add(F80::ZERO), Some(a));
            }
        }

        /// Where both fit an integer of 63 bits, the sum is the integers' sum.
        #[test]
        fn sums_of_integers_are_exact(a in -(1_i64 << 62)..1 << 62, b in -(1_i64 << 62)..1 << 62) {
            prop_assert_eq!(F80::from_i64(a).checked_add(F80::from_i64(b)), Some(F80::from_i64(a + b)));
        }

        /// With 53 bits on each side of sums below 2^64, extended precision rounds at most once
        /// more than doubles do, so both agree to a last place of the double.
        #[test]
        fn sums_lie_where_doubles_put_them(a in -1e15_f64..1e15, b in -1e15_f64..1e15) {
            let sum = F80::from_f64(a).zip(F80::from_f64(b)).and_then(|(a, b)| a.checked_add(b));
            let text = shown(sum.expect("finite"));
            let error = (text.parse::<f64>().expect("a number") - (a + b)).abs();
            prop_assert!(error <= (a + b).abs() * f64::EPSILON + 1e-17, "{} {}", text, a + b);
        }

        #[test]
        fn arbitrary_bytes_never_panic(text: Vec<u8>) {
            let _ = F80::parse(&text);
        }
    }
}
