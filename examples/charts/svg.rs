//! The few shapes that the charts need.

use std::fmt::Write;

/// Colours of the servers, in order; each stands out on white and on black.
pub const COLOURS: [&str; 3] = ["#3b82f6", "#e5734a", "#a3a34a"];

/// Where text begins, or ends.
#[derive(Clone, Copy)]
pub enum Anchor {
    Start,
    Middle,
    End,
}

/// A drawing under way.
pub struct Drawing {
    body: String,
    width: f64,
    height: f64,
}

impl Drawing {
    /// An empty drawing; it grows downwards.
    pub fn new(width: f64) -> Drawing {
        Drawing { body: String::new(), width, height: 0.0 }
    }

    fn put(&mut self, shape: std::fmt::Arguments<'_>) {
        // Writing to a string does not fail.
        let _ = self.body.write_fmt(shape);
        self.body.push('\n');
    }

    /// Text whose base line is at `y`. `class` is `title`, `text` or `small`.
    pub fn text(&mut self, x: f64, y: f64, anchor: Anchor, class: &str, text: &str) {
        let anchor = match anchor {
            Anchor::Start => "start",
            Anchor::Middle => "middle",
            Anchor::End => "end",
        };
        let text = text.replace('&', "&amp;").replace('<', "&lt;");
        self.put(format_args!(
            r#"<text x="{x:.1}" y="{y:.1}" text-anchor="{anchor}" class="{class}">{text}</text>"#
        ));
        self.height = self.height.max(y + 8.0);
    }

    /// A filled rectangle with slightly rounded corners.
    pub fn bar(&mut self, x: f64, y: f64, width: f64, height: f64, colour: &str) {
        self.put(format_args!(
            r#"<rect x="{x:.1}" y="{y:.1}" width="{width:.1}" height="{height:.1}" rx="2" fill="{colour}"/>"#
        ));
        self.height = self.height.max(y + height);
    }

    /// A thin line of the grid.
    pub fn rule(&mut self, from: (f64, f64), to: (f64, f64)) {
        let ((x1, y1), (x2, y2)) = (from, to);
        self.put(format_args!(
            r#"<line x1="{x1:.1}" y1="{y1:.1}" x2="{x2:.1}" y2="{y2:.1}" class="rule"/>"#
        ));
    }

    /// A coloured line.
    pub fn line(&mut self, from: (f64, f64), to: (f64, f64), colour: &str) {
        let ((x1, y1), (x2, y2)) = (from, to);
        self.put(format_args!(
            r#"<line x1="{x1:.1}" y1="{y1:.1}" x2="{x2:.1}" y2="{y2:.1}" stroke="{colour}" stroke-width="2"/>"#
        ));
    }

    /// A mark for a value: a ring, a disc, or a square.
    pub fn mark(&mut self, x: f64, y: f64, kind: Mark, colour: &str) {
        match kind {
            Mark::Ring => self.put(format_args!(
                r#"<circle cx="{x:.1}" cy="{y:.1}" r="4" class="hollow" stroke="{colour}" stroke-width="2"/>"#
            )),
            Mark::Disc => self
                .put(format_args!(r#"<circle cx="{x:.1}" cy="{y:.1}" r="4.5" fill="{colour}"/>"#)),
            Mark::Square => {
                let (x, y) = (x - 4.0, y - 4.0);
                self.put(format_args!(
                    r#"<rect x="{x:.1}" y="{y:.1}" width="8" height="8" fill="{colour}"/>"#
                ));
            }
        }
    }

    /// Names of the servers in their colours, from `x` on.
    pub fn legend(&mut self, mut x: f64, y: f64, servers: &[(String, String)]) -> f64 {
        for ((_, label), colour) in servers.iter().zip(COLOURS) {
            self.bar(x, y - 9.0, 10.0, 10.0, colour);
            self.text(x + 15.0, y, Anchor::Start, "text", label);
            x += 15.0 + label.len() as f64 * 7.2 + 18.0;
        }
        x
    }

    /// The file's text, with `captions` below all else.
    pub fn finish(mut self, captions: &[String]) -> String {
        self.height += 12.0;
        for caption in captions {
            let y = self.height + 8.0;
            self.text(0.0, y, Anchor::Start, "small", caption);
        }
        let Drawing { body, width, height } = self;
        let height = height + 4.0;
        format!(
            r#"<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height:.0}" viewBox="0 0 {width} {height:.0}" role="img">
<style>
text {{ font-family: system-ui, "Segoe UI", "Helvetica Neue", Arial, sans-serif; fill: #1f2328; }}
.title {{ font-size: 15px; font-weight: 600; }}
.text {{ font-size: 12px; }}
.small {{ font-size: 10.5px; fill: #656d76; }}
.rule {{ stroke: #8b949e; stroke-opacity: 0.35; stroke-width: 1; }}
.hollow {{ fill: #ffffff; }}
@media (prefers-color-scheme: dark) {{
  text {{ fill: #e6edf3; }}
  .small {{ fill: #9198a1; }}
  .hollow {{ fill: #0d1117; }}
}}
</style>
{body}</svg>
"#
        )
    }
}

/// How a value is marked.
#[derive(Clone, Copy)]
pub enum Mark {
    Ring,
    Disc,
    Square,
}
