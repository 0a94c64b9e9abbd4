//! Lines, outlines, signs and texts as SVG.
//!
//! Guarantee: every text that is written went through [`xml`], and nothing but numbers and words of this file stands outside
//! of texts. Sizes are whole pixels.

use super::{Drawn, GAP, NAME_LINE, PAD, Place, SMALL_LINE, Shape, TITLE_MAX};
use crate::chain::rules::evidence::Confidence;
use crate::text::escape;
use catena_schemas::Outcome;
use std::fmt::Write;
use unicode_width::{UnicodeWidthChar, UnicodeWidthStr};

pub(super) const STYLE: &str = "\
.catena-chain text{font:12px ui-monospace,SFMono-Regular,Menlo,Consolas,'DejaVu Sans Mono',monospace;fill:#1b2430}\
.catena-chain .name{font-weight:600}.catena-chain .small{font-size:10.5px;fill:#4d5968}.catena-chain .title{font-weight:600}\
.catena-chain .alert{font-size:10.5px;font-weight:700;fill:#b42318}.catena-chain .ground{fill:#fff}\
.catena-chain .box{fill:#f5f7fa;stroke:#6b7684;stroke-width:1.2}.catena-chain .call{fill:#fff}.catena-chain .absent{fill:#fff;stroke-dasharray:5 4}\
.catena-chain .rest{fill:#fff;stroke-dasharray:1.5 3}.catena-chain .wide{stroke:#b42318;stroke-width:3}\
.catena-chain .edge{fill:none;stroke:#6b7684;stroke-width:1.4}.catena-chain .further{stroke-dasharray:6 4}.catena-chain .lost{stroke-dasharray:1.5 3}\
.catena-chain .edge.wide{stroke:#b42318;stroke-width:3}.catena-chain .head{fill:#6b7684}.catena-chain .head.wide{fill:#b42318;stroke:none}\
.catena-chain .sign{fill:none;stroke-width:1.8}.catena-chain .allow{stroke:#1a7f4b}.catena-chain .deny{stroke:#b42318}\
.catena-chain .step_up{stroke:#8a5d00}.catena-chain .other{stroke:#4d5968}\
@media (prefers-color-scheme:dark){.catena-chain text{fill:#e7ebf0}.catena-chain .small{fill:#aab4c1}.catena-chain .alert{fill:#ff9a8c}\
.catena-chain .ground,.catena-chain .call,.catena-chain .absent,.catena-chain .rest{fill:#12161c}.catena-chain .box{stroke:#8793a3}.catena-chain .party{fill:#1d242e}\
.catena-chain .edge{stroke:#8793a3}.catena-chain .head{fill:#8793a3}.catena-chain .wide,.catena-chain .edge.wide{stroke:#ff9a8c}\
.catena-chain .head.wide{fill:#ff9a8c}.catena-chain .allow{stroke:#4cc38a}.catena-chain .deny{stroke:#ff9a8c}\
.catena-chain .step_up{stroke:#e6b94d}.catena-chain .other{stroke:#aab4c1}}";

impl Drawn {
    pub(super) fn write(&self, out: &mut String, at: Place) {
        let event = self.event.as_ref().map(|e| format!(" data-event=\"{}\"", xml(e))).unwrap_or_default();
        let _ = write!(out, "<g{event}>");
        if !self.title.is_empty() {
            let whole: String = self.title.chars().take(TITLE_MAX).collect();
            let lines: Vec<String> = whole.split('\n').map(xml).collect();
            let _ = write!(out, "<title>{}</title>", lines.join("\n"));
        }
        self.outline(out, at);
        let lines: i64 = self.lines.iter().map(|l| if l.0 == "name" { NAME_LINE } else { SMALL_LINE }).sum();
        let mut y = at.y - lines / 2 - 3;
        let x = at.x + PAD + self.shape.inset();
        for (class, text) in &self.lines {
            y += if *class == "name" { NAME_LINE } else { SMALL_LINE };
            let (class, dx) = if *class == "sign" { ("small", 15) } else { (*class, 0) };
            if let Some(outcome) = self.sign.filter(|_| dx > 0) {
                sign(out, outcome, x, y - 10);
            }
            let _ = write!(
                out,
                "<text class=\"{class}\" x=\"{}\" y=\"{}\">{}</text>",
                x + dx,
                y - 1,
                xml(text.trim_start())
            );
        }
        out.push_str("</g>\n");
    }

    fn outline(&self, out: &mut String, at: Place) {
        let (x, y, w, h, class) = (at.x, at.y - self.height / 2, self.width, self.height, self.class);
        let _ = match self.shape {
            Shape::Square => write!(out, "<rect class=\"{class}\" x=\"{x}\" y=\"{y}\" width=\"{w}\" height=\"{h}\"/>"),
            Shape::Soft => {
                write!(out, "<rect class=\"{class}\" x=\"{x}\" y=\"{y}\" width=\"{w}\" height=\"{h}\" rx=\"8\"/>")
            }
            Shape::Round => {
                let r = (h / 2).min(28);
                write!(out, "<rect class=\"{class}\" x=\"{x}\" y=\"{y}\" width=\"{w}\" height=\"{h}\" rx=\"{r}\"/>")
            }
            Shape::Hexagon => {
                let (m, r) = (h / 2, x + w);
                write!(
                    out,
                    "<path class=\"{class}\" d=\"M{x} {}L{} {y}H{}L{r} {}L{} {}H{}Z\"/>",
                    y + m,
                    x + 12,
                    r - 12,
                    y + m,
                    r - 12,
                    y + h,
                    x + 12
                )
            }
            Shape::Ellipse => {
                let (cx, cy) = (x + w / 2, y + h / 2);
                write!(out, "<ellipse class=\"{class}\" cx=\"{cx}\" cy=\"{cy}\" rx=\"{}\" ry=\"{}\"/>", w / 2, h / 2)
            }
        };
    }
}

/// A line with an arrow. Words stand before the arrow, where no other line can be: above a line that comes from below or
/// straight, below one that comes from above. Those of a further parent stand where it begins.
pub(super) fn edge(out: &mut String, from: (i64, i64), to: (i64, i64), class: &str, label: &str) {
    let reach = ((to.0 - from.0) / 2).max(GAP / 2);
    let (a, b, end) = (from.0 + reach, to.0 - reach, to.0 - 6);
    let _ = writeln!(
        out,
        "<path class=\"{class}\" d=\"M{} {}C{a} {} {b} {} {end} {}\"/>",
        from.0, from.1, from.1, to.1, to.1
    );
    let is_wide = class.ends_with("wide");
    let head = if is_wide { "head wide" } else { "head" };
    let _ = writeln!(out, "<path class=\"{head}\" d=\"M{} {}l-8 -4v8z\"/>", to.0, to.1);
    let falls = to.1 > from.1 + 4;
    let (anchor, x, mut y) = match class.ends_with("further") {
        true => ("start", from.0 + 8, if falls { from.1 - 5 } else { from.1 + 13 }),
        false => ("end", to.0 - 12, if falls { to.1 + 14 } else { to.1 - 6 }),
    };
    for (class, words) in [("small", label), ("alert", if is_wide { "WIDENED" } else { "" })] {
        if !words.is_empty() {
            let _ = writeln!(
                out,
                "<text class=\"{class}\" text-anchor=\"{anchor}\" x=\"{x}\" y=\"{y}\">{}</text>",
                xml(words)
            );
            y = if falls { y + SMALL_LINE - 2 } else { to.1 + 15 };
        }
    }
}

/// The outcome as a sign of ten pixels: a shape each, so that no colour is needed.
pub(super) fn sign(out: &mut String, outcome: Outcome, x: i64, y: i64) {
    let (class, path) = match outcome {
        Outcome::Allow => ("allow", "m0 5l3.5 4l6 -8"),
        Outcome::Deny => ("deny", "m1 1l8 8m0 -8l-8 8"),
        Outcome::StepUp => ("step_up", "m5 9v-8m-4 4l4 -4l4 4"),
        Outcome::Error => ("other", "m5 0v6m0 2v2"),
        Outcome::Unknown => ("other", "m1 5h8"),
    };
    let _ = write!(out, "<path class=\"sign {class}\" d=\"M{x} {y}{path}\"/>");
}

pub(super) fn evidence(tier: &str, confidence: Confidence) -> String {
    format!("{tier} {:.2}", confidence.share())
}

pub(super) fn plural(n: usize, word: &str) -> String {
    format!("{n} {word}{}", if n == 1 { "" } else { "s" })
}

/// A name, harmless and at most so many columns wide.
pub(super) fn cut(name: &str, columns: usize) -> String {
    // Marks that combine take no column; a name of nothing else must end too.
    let head: String = name.chars().take(columns * 4 + 1).collect();
    let name = escape(&head);
    if name.width() <= columns && name.chars().count() <= columns * 2 {
        return name.into_owned();
    }
    let (mut out, mut used) = (String::new(), 1);
    for (i, c) in name.chars().enumerate() {
        used += c.width().unwrap_or(0);
        if used > columns || i >= columns * 2 {
            break;
        }
        out.push(c);
    }
    out + "…"
}

/// Text that is harmless to eyes and to XML. Two characters that XML does not know are written out.
pub(super) fn xml(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 8);
    for c in escape(text).chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            '\u{fffe}' | '\u{ffff}' => out.extend(c.escape_unicode()),
            c => out.push(c),
        }
    }
    out
}
