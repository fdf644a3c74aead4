//! What each command has cost since the start: calls, time, refusals, failures, and how its times
//! are distributed.
//!
//! A command is known by the index that its table gave it, so counting is a few additions. The
//! clock is read once behind each command of a pipeline: where one ends the next begins.

use super::command::Command;

/// Shortest and longest time that a histogram tells apart from shorter and longer ones,
/// nanoseconds: Redis's bounds.
const SHORTEST_NS: u64 = 1;
const LONGEST_NS: u64 = 1_000_000_000;

/// Bits of a time that are kept: two decimal digits at least, as in Redis.
const KEPT_BITS: u32 = 8;

/// Cells of each power of two beyond the first `1 << KEPT_BITS` times, which have one each.
const HALF: usize = 1 << (KEPT_BITS - 1);

/// The cells that [`LONGEST_NS`] needs.
const CELLS: usize = cell_of(LONGEST_NS) + 1 + (2 * HALF - 1 - cell_of(LONGEST_NS) % HALF) % HALF;

/// The first bound of [`Histogram::cumulative`], nanoseconds; the others are twice the one before.
const FIRST_BOUND_NS: u64 = 1 << 10;

/// How a command's times are distributed, in cells that widen with the times: never by more than
/// one part in 128. Cells and rounding are those of the histograms that Redis uses.
#[derive(Clone, Debug)]
pub struct Histogram {
    cells: Box<[u64; CELLS]>,
    total: u64,
}

impl Default for Histogram {
    fn default() -> Histogram {
        Histogram { cells: Box::new([0; CELLS]), total: 0 }
    }
}

/// The cell of a time of at least [`SHORTEST_NS`].
const fn cell_of(ns: u64) -> usize {
    let shift = (u64::BITS - (ns | ((1 << KEPT_BITS) - 1)).leading_zeros()) - KEPT_BITS;
    shift as usize * HALF + (ns >> shift) as usize
}

/// The longest time that falls into a cell.
const fn longest_of(cell: usize) -> u64 {
    let shift = if cell < 2 * HALF { 0 } else { cell / HALF - 1 };
    let step = (cell - shift * HALF) as u64;
    ((step + 1) << shift) - 1
}

impl Histogram {
    /// Counts a time. A few nanoseconds.
    #[inline]
    pub fn add(&mut self, ns: u64) {
        self.cells[cell_of(ns.clamp(SHORTEST_NS, LONGEST_NS))] += 1;
        self.total += 1;
    }

    /// Times counted.
    #[must_use]
    pub fn total(&self) -> u64 {
        self.total
    }

    /// The time, in nanoseconds, that so many percent of the times counted do not exceed. Of a
    /// cell it is the upper end; the lower one for 0 percent. O(cells).
    #[must_use]
    pub fn percentile_ns(&self, percent: f64) -> u64 {
        let wanted = (percent.min(100.0) / 100.0 * self.total as f64 + 0.5) as u64;
        let mut seen = 0;
        let reached = self.cells.iter().position(|count| {
            seen += count;
            seen >= wanted.max(1)
        });
        match reached {
            None => 0,
            Some(cell) if percent == 0.0 => cell.checked_sub(1).map_or(0, |c| longest_of(c) + 1),
            Some(cell) => longest_of(cell),
        }
    }

    /// How many times did not exceed bounds that double from one to the next: (bound in
    /// microseconds, times), only where the number grows. O(cells).
    #[must_use]
    pub fn cumulative(&self) -> Vec<(u64, u64)> {
        let mut grown = Vec::new();
        let (mut seen, mut from) = (0, 0);
        let mut bound = FIRST_BOUND_NS;
        while seen < self.total && from < CELLS {
            let last = cell_of(bound).min(CELLS - 1);
            let more: u64 = self.cells[from..=last].iter().sum();
            if more > 0 {
                seen += more;
                grown.push((longest_of(last) / 1_000, seen));
            }
            (from, bound) = (last + 1, bound * 2);
        }
        grown
    }
}

/// What one command has cost.
#[derive(Clone, Debug, Default)]
pub struct CallFigures {
    /// Times it was run.
    pub calls: u64,
    /// Time that these took together, nanoseconds.
    pub total_ns: u64,
    /// Times it was refused before it ran.
    pub rejected: u64,
    /// Times it ran and failed.
    pub failed: u64,
    /// How its times are distributed; none before its first call while `latency-tracking` is on.
    pub times: Option<Histogram>,
}

/// What all commands have cost.
#[derive(Debug)]
pub struct Calls {
    /// At the indices of the commands; grows to the largest that was called.
    commands: Vec<CallFigures>,
    /// Nanoseconds since some moment.
    clock: fn() -> u64,
    /// When the last command ended, if nothing else than reading the next has been done since.
    mark: Option<u64>,
}

impl Default for Calls {
    /// Nothing counted yet, and a clock that stands still.
    fn default() -> Calls {
        Calls { commands: Vec::new(), clock: || 0, mark: None }
    }
}

impl Calls {
    /// From here on times are taken from this clock, which counts nanoseconds. Should it ever step
    /// back, what is under way counts as having taken no time.
    pub fn set_clock(&mut self, clock: fn() -> u64) {
        self.clock = clock;
    }

    /// The moment by the clock of the calls.
    #[must_use]
    pub fn now_ns(&self) -> u64 {
        (self.clock)()
    }

    /// To be called when something else than running commands was done: the time since the last
    /// one is not the next one's.
    #[inline]
    pub fn interrupt(&mut self) {
        self.mark = None;
    }

    /// A command begins; to be handed to [`Calls::end`]. Reads the clock unless another command
    /// has just ended.
    #[inline]
    pub fn begin(&mut self) -> u64 {
        self.mark.take().unwrap_or_else(self.clock)
    }

    /// A command that began at `start` has ended. Reads the clock; returns how long it took,
    /// nanoseconds.
    #[inline]
    pub fn end(&mut self, command: Command, start: u64, has_failed: bool, is_tracked: bool) -> u64 {
        let now = (self.clock)();
        let ns = now.saturating_sub(start);
        self.mark = Some(now);
        let figures = self.figures_mut(command);
        figures.calls += 1;
        figures.total_ns += ns;
        figures.failed += u64::from(has_failed);
        if is_tracked {
            figures.times.get_or_insert_default().add(ns);
        }
        ns
    }

    /// A command was refused before it ran.
    pub fn reject(&mut self, command: Command) {
        self.figures_mut(command).rejected += 1;
    }

    /// What a command has cost, if it was called or refused since the last reset.
    #[must_use]
    pub fn of(&self, command: Command) -> Option<&CallFigures> {
        let figures = self.commands.get(usize::from(command.index))?;
        (figures.calls + figures.rejected + figures.failed > 0).then_some(figures)
    }

    /// Forgets everything.
    pub fn reset(&mut self) {
        self.commands = Vec::new();
    }

    #[inline]
    fn figures_mut(&mut self, command: Command) -> &mut CallFigures {
        let index = usize::from(command.index);
        if index >= self.commands.len() {
            self.commands.resize_with(index + 1, CallFigures::default);
        }
        &mut self.commands[index]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::command::{CommandSpec, CommandTable};
    use std::cell::Cell;

    static ROWS: [CommandSpec; 2] = [
        CommandSpec { name: "get", ..CommandSpec::ROW },
        CommandSpec { name: "set", ..CommandSpec::ROW },
    ];

    thread_local! {
        static TIME: Cell<u64> = const { Cell::new(0) };
        static READINGS: Cell<u64> = const { Cell::new(0) };
    }

    fn read_clock() -> u64 {
        READINGS.set(READINGS.get() + 1);
        TIME.get()
    }

    #[test]
    fn cells_follow_each_other_without_gap() {
        for cell in 1..CELLS {
            let first = longest_of(cell - 1) + 1;
            assert_eq!((cell_of(first), cell_of(longest_of(cell))), (cell, cell));
            assert!((longest_of(cell) - first) * 128 <= first, "the cell of {first} is too wide");
        }
        assert_eq!(CELLS, 3_072, "as many as Redis has");
        assert_eq!(longest_of(CELLS - 1), (1 << 30) - 1);
    }

    #[test]
    fn percentiles_are_the_upper_ends_of_cells() {
        let mut times = Histogram::default();
        assert_eq!(times.percentile_ns(50.0), 0);
        for us in [8, 9] {
            times.add(us * 1_000);
        }
        let shown = [0.0, 50.0, 99.0, 100.0].map(|percent| times.percentile_ns(percent));
        assert_eq!(shown, [7_968 + 32, 8_031, 9_023, 9_023]);
        for percent in 1..=100_u64 {
            let mut times = Histogram::default();
            (1..=100).for_each(|ns| times.add(ns));
            assert_eq!(times.percentile_ns(percent as f64), percent);
        }
        times.add(0);
        assert_eq!(times.percentile_ns(0.0), 1, "no time is shorter");
        times.add(u64::MAX);
        assert_eq!(times.percentile_ns(100.0), 1_002_438_655, "nor longer");
    }

    #[test]
    fn bounds_double_and_are_told_where_the_number_grows() {
        let mut times = Histogram::default();
        assert_eq!(times.cumulative(), []);
        for us in [1, 7, 8, 9, 132, 133, 500_000, 700_000, 2_000_000] {
            times.add(us * 1_000);
        }
        let expected = [(1, 1), (8, 3), (16, 4), (132, 5), (264, 6), (541_065, 7), (1_073_741, 9)];
        assert_eq!(times.cumulative(), expected);
        assert_eq!(times.total(), 9);
    }

    #[test]
    fn a_pipeline_reads_the_clock_once_a_command() {
        let table = CommandTable::new(&[&ROWS]);
        let [get, set] = *table.commands() else { panic!("two commands") };
        let mut calls = Calls::default();
        calls.set_clock(read_clock);
        let run = |calls: &mut Calls, command, ns, has_failed| {
            let start = calls.begin();
            TIME.set(TIME.get() + ns);
            assert_eq!(calls.end(command, start, has_failed, true), ns);
        };
        run(&mut calls, set, 300, false);
        run(&mut calls, get, 200, false);
        run(&mut calls, get, 100, true);
        assert_eq!(READINGS.get(), 4);
        TIME.set(TIME.get() + 1_000_000);
        calls.interrupt();
        run(&mut calls, set, 50, false);
        assert_eq!(READINGS.get(), 6);
        calls.reject(set);
        let told = [get, set].map(|command| {
            let figures = calls.of(command).expect("figures");
            (figures.calls, figures.total_ns, figures.rejected, figures.failed)
        });
        assert_eq!(told, [(2, 300, 0, 1), (2, 350, 1, 0)]);
        calls.reset();
        assert!(calls.of(get).is_none() && calls.of(set).is_none());
    }
}
