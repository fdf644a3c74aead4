//! Throughput: a panel for each depth of the pipeline, a row for each command and policy.

use crate::results::Results;
use crate::svg::{Anchor, COLOURS, Drawing};

const WIDTH: f64 = 760.0;
const LABELS: f64 = 130.0;
const FIGURES: f64 = 130.0;
const BAR: f64 = 13.0;

/// The chart; `None` without figures of throughput.
pub fn draw(results: &Results) -> Option<String> {
    let settings = results.settings("throughput");
    let servers = results.servers();
    let mut depths: Vec<&str> = settings.iter().filter_map(|words| words.get(3).copied()).collect();
    depths.sort_unstable_by_key(|depth| depth.len());
    depths.dedup();
    if depths.is_empty() || servers.is_empty() {
        return None;
    }
    let mut drawing = Drawing::new(WIDTH);
    drawing.text(0.0, 16.0, Anchor::Start, "title", "Requests a second, 50 clients");
    drawing.legend(0.0, 38.0, &servers);
    let mut y = 66.0;
    for depth in depths {
        let of_depth =
            |words: &&Vec<&str>| words.get(3) == Some(&depth) && words.get(2) == Some(&"50");
        let rows: Vec<_> = settings.iter().filter(of_depth).collect();
        let rate = |server: &str, row: &[&str]| results.median(server, row, "per_second");
        let rates = || rows.iter().flat_map(|row| servers.iter().filter_map(|s| rate(&s.0, row)));
        let Some(largest) = rates().max_by(f64::total_cmp) else { continue };
        let title = if depth == "1" {
            "One request at a time (-P 1)".to_owned()
        } else {
            format!("Pipelines of {depth} (-P {depth})")
        };
        drawing.text(0.0, y, Anchor::Start, "text", &title);
        y += 12.0;
        for row in rows {
            let label = format!("{} {}", row.get(4).unwrap_or(&""), row.get(1).unwrap_or(&""));
            let middle = y + BAR * servers.len() as f64 / 2.0 + 4.0;
            drawing.text(LABELS - 10.0, middle, Anchor::End, "text", &label);
            for (at, (server, _)) in servers.iter().enumerate() {
                if let Some(rate) = rate(server, row) {
                    let width = (WIDTH - LABELS - FIGURES) * rate / largest;
                    drawing.bar(LABELS, y, width, BAR - 1.5, COLOURS[at % COLOURS.len()]);
                    let ratio = (servers.get(1).filter(|_| at == 0))
                        .and_then(|peer| results.ratio(server, &peer.0, row, "per_second"))
                        .map_or(String::new(), |ratio| format!(" ({ratio:.2}×)"));
                    let text = format!("{:.0} k{ratio}", rate / 1e3);
                    drawing.text(
                        LABELS + width + 5.0,
                        y + BAR - 3.0,
                        Anchor::Start,
                        "small",
                        &text,
                    );
                }
                y += BAR;
            }
            y += 8.0;
        }
        y += 20.0;
    }
    Some(drawing.finish(&results.captions()))
}
