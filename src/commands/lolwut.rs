//! LOLWUT: a picture drawn by chance, and the version.
//!
//! Redis draws for some versions and names its own for all others. The sizes follow from the
//! arguments as they do there; the pictures are this server's own.

use super::options;
use crate::engine::command::Arity::AtLeast;
use crate::engine::command::{CommandSpec, Doc, Flags};
use crate::engine::cx::Cx;
use crate::engine::error::{CommandError, CommandResult};
use crate::engine::registries::SplitMix64;
use crate::resp::args::Args;

/// The commands of this family.
pub static ROWS: &[CommandSpec] = &[CommandSpec {
    name: "lolwut",
    doc: Doc::new("server", "5.0.0", "", "Shows the version, below a picture for some versions.")
        .takes("[VERSION=version:int]"),
    arity: AtLeast(1),
    flags: Flags::READONLY.and(Flags::FAST).and(Flags::NO_KEYS),
    run: lolwut,
    ..CommandSpec::ROW
}];

/// No picture has more rows of characters than this: Redis lets one of version 5 grow to 100,000 rows,
/// 300 MB of reply.
const ROWS_MAX: usize = 1_000;

/// Nor a coloured one, where each character takes 16 bytes and more, more characters than this: to
/// draw it takes a few milliseconds.
const COLOURED_MAX: usize = 200_000;

/// `LOLWUT [VERSION version [argument ...]]`
fn lolwut(cx: &mut Cx<'_>, args: &mut Args<'_>) -> CommandResult {
    let asks_for_version = args.len() > 2 && options::is(&args[1], "version");
    let version = if asks_for_version { options::integer(&args[2])? } else { 0 };
    let random = &mut cx.registries.random;
    let mut text = match version {
        5 => tiles(random, &TileOptions::parse(args)?),
        6 => hills(random, &HillOptions::parse(args)?),
        _ => Vec::new(),
    };
    text.extend_from_slice(format!("Redis ver. {}\n", super::connection::REDIS_VERSION).as_bytes());
    cx.reply.verbatim(*b"txt", &text);
    Ok(())
}

/// The argument behind the version at `at`: `default` if there is none, and brought into 1 to `max`.
fn size(args: &Args<'_>, at: usize, default: usize, max: usize) -> Result<usize, CommandError> {
    let Some(text) = args.get(3 + at) else { return Ok(default) };
    let size = options::integer(text)?.max(1);
    Ok(usize::try_from(size).unwrap_or(max).min(max))
}

/// `LOLWUT VERSION 5 [columns [tiles-in-a-row [tiles-in-a-column]]]`
#[derive(Debug, PartialEq, Eq)]
struct TileOptions {
    /// Characters in a line.
    columns: usize,
    across: usize,
    down: usize,
}

impl TileOptions {
    fn parse(args: &Args<'_>) -> Result<TileOptions, CommandError> {
        Ok(TileOptions {
            columns: size(args, 0, 66, 1_000)?,
            across: size(args, 1, 8, 200)?,
            down: size(args, 2, 12, 200)?,
        })
    }
}

/// Dots in black and white, shown as Braille characters of two by four.
struct Canvas {
    columns: usize,
    /// Each character's eight dots, as the low byte of its code point.
    cells: Vec<u8>,
}

impl Canvas {
    fn new(columns: usize, rows: usize) -> Canvas {
        Canvas { columns, cells: vec![0; columns * rows] }
    }

    /// Sets a dot; outside of the canvas it does nothing.
    fn set(&mut self, x: f64, y: f64) {
        /// Rows of the two columns' bits, from the top.
        const BITS: [[u8; 2]; 4] = [[0, 3], [1, 4], [2, 5], [6, 7]];
        if x < 0.0 || y < 0.0 {
            return;
        }
        let (x, y) = (x as usize, y as usize);
        let column = x / 2;
        let Some(cell) = (column < self.columns)
            .then(|| self.cells.get_mut(y / 4 * self.columns + column))
            .flatten()
        else {
            return;
        };
        *cell |= 1 << BITS[y % 4][x % 2];
    }

    fn lines(&self) -> Vec<u8> {
        let mut text = Vec::with_capacity(self.cells.len() * 3 + self.cells.len() / self.columns);
        for row in self.cells.chunks(self.columns) {
            // U+2800 and what follows in UTF-8.
            row.iter().for_each(|dots| text.extend([0xe2, 0xa0 | dots >> 6, 0x80 | dots & 0x3f]));
            text.push(b'\n');
        }
        text
    }
}

/// Truchet's tiles: each has two arcs that join the middles of its sides, and lies one way or the
/// other. At the top they all lie so that they make rings; the further down, the more leave that to
/// chance.
fn tiles(random: &mut SplitMix64, options: &TileOptions) -> Vec<u8> {
    let TileOptions { columns, across, down } = *options;
    let margin = if columns > 4 { 2.0 } else { 0.0 };
    let side = (columns as f64 * 2.0 - margin * 2.0) / across as f64;
    let height = (side * down as f64 + margin * 2.0) as usize;
    let mut canvas = Canvas::new(columns, height.div_ceil(4).clamp(1, ROWS_MAX));
    // Dots lie closer on the arc than they are wide. All arcs are a quarter of the same circle.
    let dots = (side * 2.0).ceil().max(2.0) as usize;
    let quarter = |begin: f64| -> Vec<(f64, f64)> {
        let turns = (0..=dots).map(|dot| begin + dot as f64 / dots as f64 / 4.0);
        turns
            .map(|turn| {
                let (sine, cosine) = (turn * std::f64::consts::TAU).sin_cos();
                (side / 2.0 * cosine, side / 2.0 * sine)
            })
            .collect()
    };
    let quarters = [0.0, 0.25, 0.5, 0.75].map(quarter);
    for row in 0..down {
        let top = margin + side * row as f64;
        if top > (ROWS_MAX * 4) as f64 {
            break;
        }
        for column in 0..across {
            let left = margin + side * column as f64;
            let in_order = (row + column).is_multiple_of(2);
            let obeys = random.next_u64() % down as u64 >= row as u64;
            let falls = if obeys { in_order } else { random.next_u64().is_multiple_of(2) };
            // The corners that the arcs go round, and which quarter each is.
            let [begin, right, opposite, below] = &quarters;
            let (first, second) = if falls {
                ((side, 0.0, right), (0.0, side, below))
            } else {
                ((0.0, 0.0, begin), (side, side, opposite))
            };
            for (x, y, arc) in [first, second] {
                arc.iter().for_each(|(dx, dy)| canvas.set(left + x + dx, top + y + dy));
            }
        }
    }
    let mut text = canvas.lines();
    text.extend_from_slice(b"\nRings above, chance below: the tiles of Sebastien Truchet, 1704. ");
    text
}

/// `LOLWUT VERSION 6 [columns [rows]]`
#[derive(Debug, PartialEq, Eq)]
struct HillOptions {
    columns: usize,
    rows: usize,
}

impl HillOptions {
    fn parse(args: &Args<'_>) -> Result<HillOptions, CommandError> {
        let columns = size(args, 0, 80, 1_000)?;
        let rows_max = ROWS_MAX.min(COLOURED_MAX / columns);
        Ok(HillOptions { columns, rows: size(args, 1, 20, rows_max)? })
    }
}

/// What a terminal calls the colours: a letter's, and the ground's.
type Colour = (&'static str, &'static str);

const NIGHT: Colour = ("30", "40");
const STAR: Colour = ("97", "107");
const MOON: Colour = ("93", "103");
/// From the furthest to the nearest.
const HILLS: [Colour; 3] = [("34", "44"), ("90", "100"), ("32", "42")];

/// Hills at night: three ranges, each a walk by chance, below stars and a moon.
fn hills(random: &mut SplitMix64, options: &HillOptions) -> Vec<u8> {
    let HillOptions { columns, rows } = *options;
    let mut below = |bound: usize| (random.next_u64() % bound.max(1) as u64) as usize;
    let mut cells = vec![NIGHT; columns * rows];
    for _ in 0..columns * rows / 40 {
        let at = below(columns * rows);
        cells[at] = STAR;
    }
    let radius = (rows / 8).max(1) as i64;
    let (moon_x, moon_y) = (below(columns) as i64, (below(rows / 3 + 1)) as i64);
    for (at, cell) in cells.iter_mut().enumerate() {
        // A character is about twice as high as it is wide.
        let (x, y) = ((at % columns) as i64 - moon_x, (at / columns) as i64 - moon_y);
        if x * x / 4 + y * y < radius * radius {
            *cell = MOON;
        }
    }
    for (range, colour) in HILLS.into_iter().enumerate() {
        // Each range in its own band: the nearer, the lower.
        let (highest, lowest) = (rows * (range + 2) / 6, rows * (range + 4) / 6);
        let mut top = (highest + lowest) / 2;
        for x in 0..columns {
            top = match below(3) {
                0 => top.saturating_sub(1).max(highest),
                1 => (top + 1).min(lowest),
                _ => top,
            };
            (top..rows).for_each(|y| cells[y * columns + x] = colour);
        }
    }
    let mut text = Vec::with_capacity(cells.len() * 16);
    for row in cells.chunks(columns) {
        for (letter, ground) in row {
            text.extend_from_slice(b"\x1b[0;");
            text.extend_from_slice(letter.as_bytes());
            text.push(b';');
            text.extend_from_slice(ground.as_bytes());
            text.extend_from_slice(b"m \x1b[0m");
        }
        text.push(b'\n');
    }
    text.extend_from_slice(b"Hills at night, as a game of eight bits would have them.\n");
    text.extend_from_slice(b"No two nights are the same. ");
    text
}

#[cfg(test)]
mod tests {
    use super::ROWS;
    use crate::engine::testing::Bench;

    /// The picture and its foot, without escapes: how many characters each line has.
    fn widths(line: &str) -> Vec<usize> {
        let words: Vec<&[u8]> = line.split(' ').map(str::as_bytes).collect();
        let reply = Bench::new(&[ROWS]).run(&words);
        let text = String::from_utf8(reply).expect("text");
        let (_, text) = text.split_once("\r\n").expect("a header");
        let text = text.strip_suffix("\r\n").expect("an end");
        assert!(text.ends_with("Redis ver. 7.2.4\n"), "{line}");
        let plain = |line: &str| {
            // Each escape is a colour: it ends in the letter m.
            let parts = line.split('\x1b').map(|part| match part.split_once('m') {
                Some((code, rest)) if code.starts_with('[') => rest,
                _ => part,
            });
            parts.map(|part| part.chars().count()).sum()
        };
        text.lines().map(plain).collect()
    }

    #[test]
    fn without_a_version_that_is_drawn_it_tells_its_own() {
        let mut bench = Bench::new(&[ROWS]);
        for line in ["lolwut", "lolwut version", "lolwut version 7 x", "lolwut 5", "lolwut a b c"] {
            assert_eq!(bench.send(line), "$17 Redis ver. 7.2.4\\n", "{line}");
        }
        bench.resp3();
        assert_eq!(bench.send("LOLWUT VERSION -1"), "=21 txt:Redis ver. 7.2.4\\n");
    }

    /// The sizes are redis-server's.
    #[test]
    fn pictures_have_the_sizes_asked_for() {
        for (line, columns, rows) in [
            ("lolwut version 5", 66, 49),
            ("lolwut version 5 80 2 3", 80, 60),
            ("lolwut version 5 10 2 99", 10, 199),
            ("lolwut version 5 -1", 1, 1),
            ("lolwut version 5 4 200 1", 4, 1),
            ("lolwut version 5 1000000000000 1 1", 1_000, 500),
            ("lolwut version 6", 80, 20),
            ("lolwut version 6 10 5", 10, 5),
            ("lolwut version 6 1 1", 1, 1),
            ("lolwut version 6 2 2 x", 2, 2),
            ("lolwut version 6 9223372036854775807 0", 1_000, 1),
        ] {
            let widths = widths(line);
            let (picture, foot) = widths.split_at(rows);
            assert!(picture.iter().all(|width| *width == columns), "{line}: {picture:?}");
            assert_eq!(foot.len(), 2, "{line}");
        }
    }

    /// A picture that would take hundreds of megabytes ends earlier.
    #[test]
    fn no_picture_is_too_large_to_draw() {
        assert_eq!(widths("lolwut version 5 1000 1 200").len(), super::ROWS_MAX + 2);
        assert_eq!(widths("lolwut version 6 200 999999").len(), super::ROWS_MAX + 2);
        assert_eq!(widths("lolwut version 6 1000 999999").len(), super::COLOURED_MAX / 1_000 + 2);
    }

    #[test]
    fn sizes_that_are_no_numbers_are_refused() {
        let mut bench = Bench::new(&[ROWS]);
        for line in ["version x", "version 5 x", "version 6 1 x", "version 5 1 1 1.5"] {
            let reply = bench.send(&format!("lolwut {line}"));
            assert_eq!(reply, "-ERR value is not an integer or out of range", "{line}");
        }
    }

    #[test]
    fn no_two_pictures_are_the_same() {
        let mut bench = Bench::new(&[ROWS]);
        for line in ["lolwut version 5", "lolwut version 6"] {
            assert_ne!(bench.send(line), bench.send(line), "{line}");
        }
    }
}
