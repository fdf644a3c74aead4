//! Latency before, during and after a rewrite: a panel for each policy, in which each server's
//! median and high percentiles stand above one another on a logarithmic scale.

use crate::results::Results;
use crate::svg::{Anchor, COLOURS, Drawing, Mark};

const WIDTH: f64 = 760.0;
const AXIS: f64 = 60.0;
const TOP: f64 = 88.0;
const HEIGHT: f64 = 260.0;

const PERCENTILES: [(&str, &str, Mark); 3] = [
    ("p50_us", "p50", Mark::Ring),
    ("p99_us", "p99", Mark::Disc),
    ("p999_us", "p99.9", Mark::Square),
];

/// A scale in powers of ten, microseconds.
struct Scale {
    lowest: i32,
    highest: i32,
}

impl Scale {
    fn y(&self, us: f64) -> f64 {
        let span = f64::from(self.highest - self.lowest);
        let share = (us.max(1.0).log10() - f64::from(self.lowest)) / span;
        TOP + HEIGHT * (1.0 - share.clamp(0.0, 1.0))
    }
}

/// The chart; `None` without figures of a rewrite.
pub fn draw(results: &Results) -> Option<String> {
    let settings = results.settings("probe");
    let servers = results.servers();
    let mut policies: Vec<&str> = Vec::new();
    for words in &settings {
        let policy = words.get(1)?;
        if !policies.contains(policy) {
            policies.push(policy);
        }
    }
    let value = |server: &str, words: &[&str], figure| results.median(server, words, figure);
    let values = settings.iter().flat_map(|words| {
        let all = servers.iter().flat_map(|s| PERCENTILES.map(|(figure, ..)| (&s.0, figure)));
        all.filter_map(|(server, figure)| value(server, words, figure)).collect::<Vec<_>>()
    });
    let values: Vec<f64> = values.collect();
    let (low, high) =
        (values.iter().copied().reduce(f64::min)?, values.iter().copied().reduce(f64::max)?);
    let lowest = low.max(1.0).log10().floor() as i32;
    let scale = Scale { lowest, highest: (high.max(1.0).log10().ceil() as i32).max(lowest + 1) };

    let mut drawing = Drawing::new(WIDTH);
    let title =
        "Latency of GET, 2,000 a second, before, during and after a rewrite under write load";
    drawing.text(0.0, 16.0, Anchor::Start, "title", title);
    let mut x = drawing.legend(0.0, 40.0, &servers) + 10.0;
    for (_, label, mark) in PERCENTILES {
        drawing.mark(x, 36.0, mark, "#8b949e");
        drawing.text(x + 10.0, 40.0, Anchor::Start, "text", label);
        x += 58.0;
    }
    for power in scale.lowest..=scale.highest {
        let us = 10f64.powi(power);
        let y = scale.y(us);
        drawing.rule((AXIS, y), (WIDTH, y));
        let label = if us < 1e3 { format!("{us:.0} µs") } else { format!("{:.0} ms", us / 1e3) };
        drawing.text(AXIS - 8.0, y + 4.0, Anchor::End, "text", &label);
    }
    let panel = (WIDTH - AXIS) / policies.len() as f64;
    for (at, policy) in policies.iter().enumerate() {
        let left = AXIS + panel * at as f64;
        drawing.rule((left, TOP - 24.0), (left, TOP + HEIGHT + 22.0));
        drawing.text(left + panel / 2.0, TOP - 14.0, Anchor::Middle, "text", policy);
        let of_policy = |words: &&Vec<&str>| words.get(1) == Some(policy);
        let phases: Vec<_> = settings.iter().filter(of_policy).collect();
        let column = panel / phases.len() as f64;
        for (phase, words) in phases.iter().enumerate() {
            let middle = left + column * (phase as f64 + 0.5);
            let name = words.get(2).unwrap_or(&"");
            drawing.text(middle, TOP + HEIGHT + 18.0, Anchor::Middle, "text", name);
            for (number, (server, _)) in servers.iter().enumerate() {
                let x = middle + 18.0 * (number as f64 - (servers.len() as f64 - 1.0) / 2.0);
                let colour = COLOURS[number % COLOURS.len()];
                let points = PERCENTILES.map(|(figure, _, mark)| {
                    (value(server, words, figure).map(|us| scale.y(us)), mark)
                });
                if let (Some(from), Some(to)) = (points[0].0, points[2].0) {
                    drawing.line((x, from), (x, to), colour);
                }
                for (y, mark) in points {
                    if let Some(y) = y {
                        drawing.mark(x, y, mark, colour);
                    }
                }
            }
        }
    }
    Some(drawing.finish(&results.captions()))
}
