//! What a parameter's value may be, how it is read from words, and how CONFIG GET shows it.
//!
//! Bounds, spellings and error texts are those of Redis 7. Two things differ on purpose: where
//! Redis lets a number wrap around (`maxmemory 99999999999gb`, seconds and counts beyond 32 bits)
//! it is refused here.

use std::borrow::Cow;
use std::ffi::OsString;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::PathBuf;

use crate::text::cpu_list::CpuList;

use super::{BindAddress, OutputBufferLimit, OutputBufferLimits};

/// Why a value was refused, in Redis's words.
pub type Refusal = Cow<'static, str>;

/// Bound of Redis's own on listening addresses.
const BIND_ADDRESSES_MAX: usize = 16;

/// Longest run of digits that Redis reads as an amount of memory.
const MEMORY_DIGITS_MAX: usize = 127;

/// The shape of a parameter's value.
#[derive(Clone, Copy, Debug)]
pub enum Kind {
    /// `yes` or `no`.
    YesNo,
    /// A decimal integer from `min` to `max`.
    Integer {
        /// Smallest value taken.
        min: i64,
        /// Largest value taken.
        max: i64,
    },
    /// Permission bits, written in base eight.
    Octal {
        /// Largest value taken.
        max: u32,
    },
    /// An amount of memory in bytes, with an optional unit: `1k` is 1000, `1kb` is 1024.
    Memory {
        /// Smallest value taken, bytes.
        min: u64,
        /// Largest value taken, bytes.
        max: u64,
    },
    /// An amount of memory, or a percentage of `maxmemory`.
    MemoryOrPercent,
    /// One of some names, in any case.
    Choice {
        /// The names, in the order in which an error lists them.
        names: &'static [&'static str],
        /// Names that CONFIG GET shows as another: (name, shown as).
        shown_as: &'static [(&'static str, &'static str)],
    },
    /// What SHUTDOWN is to do on a signal: several of a few names.
    ShutdownOptions,
    /// Text up to the first NUL byte, refused where `check` says so.
    Text {
        /// Says what is wrong with a text.
        check: fn(&[u8]) -> Result<(), &'static str>,
    },
    /// Any bytes.
    Binary,
    /// Classes of keyspace events, a letter each.
    EventClasses,
    /// Pairs of seconds and changes.
    SavePoints,
    /// `<class> <hard bytes> <soft bytes> <soft seconds>`, repeated.
    OutputBufferLimits,
    /// Three numbers from -2000 to 2000.
    OomScores,
    /// Percentiles from 0 to 100.
    Percentiles,
    /// Addresses to listen on.
    Addresses,
    /// Host and port of a primary, or `no one`.
    ReplicaOf,
    /// A directive of configuration files that is no parameter: only its words are counted.
    Directive {
        /// Fewest words after the name.
        min_words: usize,
        /// Most words after the name.
        max_words: usize,
    },
}

/// A value that its [`Kind`] has accepted.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    /// Of [`Kind::YesNo`].
    YesNo(bool),
    /// Of [`Kind::Integer`].
    Integer(i64),
    /// Of [`Kind::Octal`].
    Octal(u32),
    /// Bytes, of [`Kind::Memory`] or [`Kind::MemoryOrPercent`].
    Memory(u64),
    /// Of [`Kind::MemoryOrPercent`].
    Percent(u64),
    /// Of [`Kind::Choice`].
    Choice(&'static str),
    /// Of the kinds that are kept as text.
    Text(Vec<u8>),
    /// Of [`Kind::Percentiles`].
    Percentiles(Vec<f64>),
    /// Of [`Kind::Addresses`].
    Addresses(Vec<BindAddress>),
    /// Of [`Kind::OutputBufferLimits`]; classes that were not named stay as they are.
    Limits {
        /// Class `normal`.
        normal: Option<OutputBufferLimit>,
        /// Class `replica`, shown under its old name `slave`.
        replica: Option<OutputBufferLimit>,
        /// Class `pubsub`.
        pubsub: Option<OutputBufferLimit>,
    },
}

impl Kind {
    /// Whether a configuration line may carry a number of words other than one.
    #[must_use]
    pub fn takes_several_words(self) -> bool {
        matches!(
            self,
            Kind::ShutdownOptions
                | Kind::SavePoints
                | Kind::OutputBufferLimits
                | Kind::OomScores
                | Kind::Percentiles
                | Kind::Addresses
                | Kind::ReplicaOf
                | Kind::Directive { .. }
        )
    }

    /// How `--help` names the value.
    #[must_use]
    pub fn placeholder(self) -> Cow<'static, str> {
        match self {
            Kind::YesNo => "yes|no".into(),
            Kind::Integer { .. } => "N".into(),
            Kind::Octal { .. } => "MODE".into(),
            Kind::Memory { .. } | Kind::MemoryOrPercent => "BYTES".into(),
            // All of many would not fit a line; the error for a wrong one lists them.
            Kind::Choice { names: [first, _, _, _, _, _, .., last], .. } => {
                format!("{first}|...|{last}").into()
            }
            Kind::Choice { names, .. } => names.join("|").into(),
            Kind::Addresses => "ADDRESS...".into(),
            Kind::OutputBufferLimits => "CLASS HARD SOFT SECONDS".into(),
            _ => "TEXT".into(),
        }
    }

    /// Reads the words of a configuration line or flag.
    ///
    /// # Errors
    /// Redis's text saying what is wrong.
    pub fn parse(self, words: &[&[u8]]) -> Result<Value, Refusal> {
        let several = self.takes_several_words();
        let words: Vec<&[u8]> = match self {
            Kind::Integer { .. } | Kind::Binary | Kind::Percentiles => words.to_vec(),
            _ => words.iter().map(|word| until_nul(word)).collect(),
        };
        match (several, words.as_slice()) {
            (true, words) => self.parse_words(words),
            (false, &[word]) => self.parse_word(word),
            (false, _) => Err("wrong number of arguments".into()),
        }
    }

    fn parse_word(self, word: &[u8]) -> Result<Value, Refusal> {
        match self {
            Kind::YesNo if word.eq_ignore_ascii_case(b"yes") => Ok(Value::YesNo(true)),
            Kind::YesNo if word.eq_ignore_ascii_case(b"no") => Ok(Value::YesNo(false)),
            Kind::YesNo => Err("argument must be 'yes' or 'no'".into()),
            Kind::Integer { min, max } => {
                let n = parse_integer(word).ok_or("argument couldn't be parsed into an integer")?;
                if n < min || n > max {
                    return Err(between(min, max));
                }
                Ok(Value::Integer(n))
            }
            Kind::Octal { max } => parse_octal(word, max).map(Value::Octal),
            Kind::Memory { min, max } => {
                let n = parse_memory(word).ok_or("argument must be a memory value")?;
                if n < min || n > max {
                    return Err(between(min, max));
                }
                Ok(Value::Memory(n))
            }
            Kind::MemoryOrPercent => parse_memory_or_percent(word),
            Kind::Choice { names, .. } => {
                find_name(names, word).map(Value::Choice).ok_or_else(|| one_of(names))
            }
            Kind::Text { check } => {
                check(word)?;
                Ok(Value::Text(word.to_vec()))
            }
            Kind::EventClasses => parse_event_classes(word).map(Value::Text),
            _ => Ok(Value::Text(word.to_vec())),
        }
    }

    fn parse_words(self, words: &[&[u8]]) -> Result<Value, Refusal> {
        // One empty word stands for none: `save ""`.
        let listed = if words == [b"".as_slice()] { &[] } else { words };
        match self {
            Kind::ShutdownOptions => parse_shutdown_options(words),
            Kind::SavePoints => parse_save_points(listed),
            Kind::OutputBufferLimits => parse_limits(listed),
            Kind::OomScores => parse_oom_scores(words),
            Kind::Percentiles => parse_percentiles(listed),
            Kind::Addresses => parse_addresses(listed),
            Kind::ReplicaOf => parse_replica_of(words),
            Kind::Directive { min_words, max_words }
                if words.len() < min_words || words.len() > max_words =>
            {
                Err("Bad directive or wrong number of arguments".into())
            }
            _ => Ok(Value::Text(words.join(&b' '))),
        }
    }

    /// The value as CONFIG GET shows it.
    #[must_use]
    pub fn show(self, value: &Value) -> Vec<u8> {
        let text = match value {
            Value::YesNo(true) => "yes".to_owned(),
            Value::YesNo(false) => "no".to_owned(),
            Value::Integer(n) => n.to_string(),
            Value::Octal(n) => format!("{n:o}"),
            Value::Memory(n) => n.to_string(),
            Value::Percent(n) => format!("{n}%"),
            Value::Choice(name) => match self {
                Kind::Choice { shown_as, .. } => {
                    let shown = shown_as.iter().find(|(from, _)| from == name);
                    shown.map_or(*name, |(_, to)| *to).to_owned()
                }
                _ => (*name).to_owned(),
            },
            Value::Text(bytes) => return bytes.clone(),
            Value::Percentiles(list) => {
                list.iter().map(|n| percentile_text(*n)).collect::<Vec<_>>().join(" ")
            }
            Value::Addresses(list) => {
                list.iter().map(BindAddress::to_string).collect::<Vec<_>>().join(" ")
            }
            Value::Limits { normal, replica, pubsub } => {
                let classes = [("normal", normal), ("slave", replica), ("pubsub", pubsub)];
                let shown = classes.iter().filter_map(|(class, limit)| {
                    limit.as_ref().map(|l| {
                        let OutputBufferLimit { hard_bytes, soft_bytes, soft_seconds } = l;
                        format!("{class} {hard_bytes} {soft_bytes} {soft_seconds}")
                    })
                });
                shown.collect::<Vec<_>>().join(" ")
            }
        };
        text.into_bytes()
    }
}

fn until_nul(word: &[u8]) -> &[u8] {
    word.split(|&b| b == 0).next().unwrap_or_default()
}

fn between(min: impl std::fmt::Display, max: impl std::fmt::Display) -> Refusal {
    format!("argument must be between {min} and {max} inclusive").into()
}

fn one_of(names: &[&str]) -> Refusal {
    format!("argument(s) must be one of the following: {}", names.join(", ")).into()
}

fn find_name(names: &[&'static str], word: &[u8]) -> Option<&'static str> {
    names.iter().find(|name| name.as_bytes().eq_ignore_ascii_case(word)).copied()
}

/// A canonical decimal integer: no sign but `-`, no leading zero, no blank.
fn parse_integer(word: &[u8]) -> Option<i64> {
    let digits = word.strip_prefix(b"-").unwrap_or(word);
    let canonical = word == b"0" || matches!(digits.first(), Some(b'1'..=b'9'));
    if !canonical || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    std::str::from_utf8(word).ok()?.parse().ok()
}

/// An amount of memory in bytes: digits (none count as 0, more than fit as the most) and an
/// optional unit, `1k` for 1000, `1kb` for 1024.
#[must_use]
pub fn parse_memory(word: &[u8]) -> Option<u64> {
    let end = word.iter().position(|b| !b.is_ascii_digit()).unwrap_or(word.len());
    let (digits, unit) = word.split_at(end);
    let multiplier: u64 = match unit.to_ascii_lowercase().as_slice() {
        b"" | b"b" => 1,
        b"k" => 1_000,
        b"kb" => 1 << 10,
        b"m" => 1_000_000,
        b"mb" => 1 << 20,
        b"g" => 1_000_000_000,
        b"gb" => 1 << 30,
        _ => return None,
    };
    if digits.len() > MEMORY_DIGITS_MAX {
        return None;
    }
    let digit_value = |b: &u8| u64::from(b - b'0');
    let number =
        digits.iter().fold(0u64, |n, b| n.saturating_mul(10).saturating_add(digit_value(b)));
    number.checked_mul(multiplier)
}

/// Also what Redis says of memory beyond 63 bits, since it keeps a percentage as a negative number.
const TOO_MANY_PERCENT: &str = "percentage argument must be less or equal to 100";

fn parse_memory_or_percent(word: &[u8]) -> Result<Value, Refusal> {
    if let Some(bytes) = parse_memory(word) {
        let fits = i64::try_from(bytes).is_ok();
        return if fits { Ok(Value::Memory(bytes)) } else { Err(TOO_MANY_PERCENT.into()) };
    }
    let percent = word.strip_suffix(b"%").and_then(parse_integer).filter(|n| *n >= 0);
    match percent.map(i64::unsigned_abs) {
        Some(0) => Ok(Value::Memory(0)),
        Some(n) if n > 100 => Err(TOO_MANY_PERCENT.into()),
        Some(n) => Ok(Value::Percent(n)),
        None => Err("argument must be a memory or percent value".into()),
    }
}

/// What strtoll reads: blanks, a sign and digits of `base`; the number, kept within the range of
/// i64, and whether the whole text was read and fitted.
struct CNumber {
    value: i64,
    whole: bool,
    fits: bool,
}

fn parse_c_number(text: &[u8], base: u32) -> CNumber {
    let start = text.iter().position(|b| !is_c_space(*b)).unwrap_or(text.len());
    let rest = &text[start..];
    let (negative, digits) = match rest {
        [b'-', digits @ ..] => (true, digits),
        [b'+', digits @ ..] => (false, digits),
        _ => (false, rest),
    };
    let end = digits.iter().position(|b| !char::from(*b).is_digit(base)).unwrap_or(digits.len());
    let mut magnitude: i128 = 0;
    let mut fits = true;
    for b in &digits[..end] {
        let digit = char::from(*b).to_digit(base).unwrap_or(0);
        magnitude = magnitude.saturating_mul(i128::from(base)).saturating_add(i128::from(digit));
    }
    let signed = if negative { -magnitude } else { magnitude };
    let value = i64::try_from(signed).unwrap_or_else(|_| {
        fits = false;
        if negative { i64::MIN } else { i64::MAX }
    });
    // Without a digit nothing was read at all, which is "the whole" of an empty text only.
    let whole = if end == 0 { text.is_empty() } else { end == digits.len() };
    CNumber { value, whole, fits }
}

/// C's isspace in the "C" locale.
pub(super) fn is_c_space(b: u8) -> bool {
    matches!(b, b' ' | b'\t' | b'\n' | 0x0b | 0x0c | b'\r')
}

fn parse_octal(word: &[u8], max: u32) -> Result<u32, Refusal> {
    let number = parse_c_number(word, 8);
    if !number.whole || !number.fits {
        return Err("argument couldn't be parsed as an octal number".into());
    }
    match u32::try_from(number.value) {
        Ok(n) if n <= max => Ok(n),
        _ => Err(format!("argument must be between 0 and {max:o} inclusive").into()),
    }
}

fn parse_shutdown_options(words: &[&[u8]]) -> Result<Value, Refusal> {
    const NAMES: &[&str] = &["default", "save", "nosave", "now", "force"];
    let mut given = Vec::new();
    for word in words {
        given.push(find_name(NAMES, word).ok_or_else(|| one_of(NAMES))?);
    }
    if given.is_empty() {
        return Err(one_of(NAMES));
    }
    if given.contains(&"save") && given.contains(&"nosave") {
        return Err("shutdown options SAVE and NOSAVE can't be used simultaneously".into());
    }
    let mut shown: Vec<&str> =
        NAMES.iter().filter(|n| **n != "default" && given.contains(n)).copied().collect();
    if shown.is_empty() {
        shown.push("default");
    }
    Ok(Value::Text(shown.join(" ").into_bytes()))
}

fn parse_save_points(words: &[&[u8]]) -> Result<Value, Refusal> {
    const REFUSED: &str = "Invalid save parameters";
    if !words.len().is_multiple_of(2) {
        return Err(REFUSED.into());
    }
    let mut shown = Vec::new();
    for pair in words.chunks(2) {
        for (word, min) in pair.iter().zip([1, 0]) {
            let number = parse_c_number(word, 10);
            if !number.whole || number.value < min || number.value > i64::from(i32::MAX) {
                return Err(REFUSED.into());
            }
            shown.push(number.value.to_string());
        }
    }
    Ok(Value::Text(shown.join(" ").into_bytes()))
}

fn parse_limits(words: &[&[u8]]) -> Result<Value, Refusal> {
    if !words.len().is_multiple_of(4) {
        return Err("Wrong number of arguments in buffer limit configuration.".into());
    }
    let (mut normal, mut replica, mut pubsub) = (None, None, None);
    for group in words.chunks(4) {
        let &[class, hard, soft, seconds] = group else { continue };
        let slot = match class.to_ascii_lowercase().as_slice() {
            b"normal" => &mut normal,
            b"replica" | b"slave" => &mut replica,
            b"pubsub" => &mut pubsub,
            _ => {
                let why = "Invalid client class specified in buffer limit configuration.";
                return Err(why.into());
            }
        };
        let seconds = parse_c_number(seconds, 10);
        let fits = u32::try_from(seconds.value).ok().filter(|n| *n <= i32::MAX as u32);
        let (true, Some(hard_bytes), Some(soft_bytes), Some(soft_seconds)) =
            (seconds.whole, parse_memory(hard), parse_memory(soft), fits)
        else {
            let why = "Error in hard, soft or soft_seconds setting in buffer limit configuration.";
            return Err(why.into());
        };
        *slot = Some(OutputBufferLimit { hard_bytes, soft_bytes, soft_seconds });
    }
    Ok(Value::Limits { normal, replica, pubsub })
}

fn parse_oom_scores(words: &[&[u8]]) -> Result<Value, Refusal> {
    if words.len() != 3 {
        return Err("wrong number of arguments".into());
    }
    let mut shown = Vec::new();
    for word in words {
        let number = parse_c_number(word, 10);
        if !number.whole || !(-2000..=2000).contains(&number.value) {
            let why = "Invalid oom-score-adj-values, elements must be between -2000 and 2000.";
            return Err(why.into());
        }
        shown.push(number.value.to_string());
    }
    Ok(Value::Text(shown.join(" ").into_bytes()))
}

fn parse_percentiles(words: &[&[u8]]) -> Result<Value, Refusal> {
    let mut percentiles = Vec::new();
    for word in words {
        let number = std::str::from_utf8(word).ok().and_then(|text| text.parse::<f64>().ok());
        let Some(number) = number.filter(|n| !n.is_nan()) else {
            return Err("Invalid latency-tracking-info-percentiles parameters".into());
        };
        if !(0.0..=100.0).contains(&number) {
            let why = "latency-tracking-info-percentiles parameters should sit between [0.0,100.0]";
            return Err(why.into());
        }
        percentiles.push(number);
    }
    Ok(Value::Percentiles(percentiles))
}

/// A percentile as Redis shows it: `99.9`.
#[must_use]
pub fn percentile_text(percent: f64) -> String {
    let text = format!("{percent:.6}");
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

fn parse_addresses(words: &[&[u8]]) -> Result<Value, Refusal> {
    if words.len() > BIND_ADDRESSES_MAX {
        return Err("Too many bind addresses specified.".into());
    }
    let parse = |word: &&[u8]| {
        let text = std::str::from_utf8(word).ok().filter(|text| !text.is_empty());
        text.map(BindAddress::parse).ok_or("Failed to bind to specified addresses.".into())
    };
    words.iter().map(parse).collect::<Result<_, Refusal>>().map(Value::Addresses)
}

fn parse_replica_of(words: &[&[u8]]) -> Result<Value, Refusal> {
    let &[host, port] = words else { return Err("wrong number of arguments".into()) };
    if host.eq_ignore_ascii_case(b"no") && port.eq_ignore_ascii_case(b"one") {
        return Ok(Value::Text(Vec::new()));
    }
    let number = parse_c_number(port, 10);
    if !number.whole || !(0..=65_535).contains(&number.value) {
        return Err("Invalid master port".into());
    }
    Ok(Value::Text([host, number.value.to_string().as_bytes()].join(&b' ')))
}

/// The letters that `A` stands for, in the order in which Redis shows them.
const EVENT_CLASSES_ALL: &[u8] = b"g$lshzxetd";

fn parse_event_classes(word: &[u8]) -> Result<Vec<u8>, Refusal> {
    if !word.iter().all(|b| b"AKEmn".contains(b) || EVENT_CLASSES_ALL.contains(b)) {
        return Err("Invalid event class character. Use 'Ag$lshzxeKEtmdn'.".into());
    }
    let all = word.contains(&b'A') || EVENT_CLASSES_ALL.iter().all(|b| word.contains(b));
    let keep = |letters: &[u8]| letters.iter().copied().filter(|b| word.contains(b)).collect();
    let mut shown: Vec<u8> =
        if all { vec![b'A'] } else { keep(&[EVENT_CLASSES_ALL, b"n"].concat()) };
    shown.extend::<Vec<u8>>(keep(b"KEm"));
    Ok(shown)
}

/// A value met a field of another type. The table's tests hold that this cannot happen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WrongType;

/// Puts `value` into the field `slot`.
///
/// # Errors
/// [`WrongType`] when the field cannot hold it; the field is then as it was.
pub(super) fn store<T: TryFrom<Value>>(slot: &mut T, value: Value) -> Result<(), WrongType> {
    *slot = T::try_from(value).map_err(|_| WrongType)?;
    Ok(())
}

impl From<bool> for Value {
    fn from(yes: bool) -> Value {
        Value::YesNo(yes)
    }
}

impl TryFrom<Value> for bool {
    type Error = WrongType;
    fn try_from(value: Value) -> Result<bool, WrongType> {
        if let Value::YesNo(yes) = value { Ok(yes) } else { Err(WrongType) }
    }
}

impl From<u16> for Value {
    fn from(n: u16) -> Value {
        Value::Integer(n.into())
    }
}

impl TryFrom<Value> for u16 {
    type Error = WrongType;
    fn try_from(value: Value) -> Result<u16, WrongType> {
        if let Value::Integer(n) = value {
            n.try_into().map_err(|_| WrongType)
        } else {
            Err(WrongType)
        }
    }
}

impl From<u32> for Value {
    fn from(n: u32) -> Value {
        Value::Integer(n.into())
    }
}

impl TryFrom<Value> for u32 {
    type Error = WrongType;
    fn try_from(value: Value) -> Result<u32, WrongType> {
        match value {
            Value::Integer(n) => n.try_into().map_err(|_| WrongType),
            Value::Octal(n) => Ok(n),
            _ => Err(WrongType),
        }
    }
}

impl From<u64> for Value {
    fn from(bytes: u64) -> Value {
        Value::Memory(bytes)
    }
}

impl TryFrom<Value> for u64 {
    type Error = WrongType;
    fn try_from(value: Value) -> Result<u64, WrongType> {
        if let Value::Memory(bytes) = value { Ok(bytes) } else { Err(WrongType) }
    }
}

impl From<&PathBuf> for Value {
    fn from(path: &PathBuf) -> Value {
        Value::Text(path.as_os_str().as_bytes().to_vec())
    }
}

impl TryFrom<Value> for PathBuf {
    type Error = WrongType;
    fn try_from(value: Value) -> Result<PathBuf, WrongType> {
        let Value::Text(bytes) = value else { return Err(WrongType) };
        Ok(PathBuf::from(OsString::from_vec(bytes)))
    }
}

impl From<&CpuList> for Value {
    fn from(list: &CpuList) -> Value {
        Value::Text(list.text().to_vec())
    }
}

impl TryFrom<Value> for CpuList {
    type Error = WrongType;
    fn try_from(value: Value) -> Result<CpuList, WrongType> {
        let Value::Text(text) = value else { return Err(WrongType) };
        CpuList::parse(&text).map_err(|_| WrongType)
    }
}

impl From<&Option<PathBuf>> for Value {
    fn from(path: &Option<PathBuf>) -> Value {
        path.as_ref().map_or(Value::Text(Vec::new()), Value::from)
    }
}

/// An empty text is no path. (The orphan rule forbids `TryFrom` for an `Option`.)
pub(super) fn store_path(slot: &mut Option<PathBuf>, value: Value) -> Result<(), WrongType> {
    let path = PathBuf::try_from(value)?;
    *slot = (!path.as_os_str().is_empty()).then_some(path);
    Ok(())
}

impl From<OutputBufferLimits> for Value {
    fn from(limits: OutputBufferLimits) -> Value {
        let OutputBufferLimits { normal, replica, pubsub } = limits;
        Value::Limits { normal: Some(normal), replica: Some(replica), pubsub: Some(pubsub) }
    }
}

/// Merges the classes that `value` names.
pub(super) fn store_limits(slot: &mut OutputBufferLimits, value: Value) -> Result<(), WrongType> {
    let Value::Limits { normal, replica, pubsub } = value else { return Err(WrongType) };
    slot.normal = normal.unwrap_or(slot.normal);
    slot.replica = replica.unwrap_or(slot.replica);
    slot.pubsub = pubsub.unwrap_or(slot.pubsub);
    Ok(())
}
