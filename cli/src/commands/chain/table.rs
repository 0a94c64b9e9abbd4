//! Chains as a table that fits the window.
//!
//! Guarantee: no line is wider than the window, down to 70 columns; a cell that was cut ends in an ellipsis; no cell holds a character
//! that a terminal obeys.

use catena_analysis::text::escape;
use catena_schemas::answer::ChainSummary;
use unicode_width::{UnicodeWidthChar, UnicodeWidthStr};

const HEADER: [&str; 7] = ["chain", "when", "who", "agents", "tools", "denied", "widened"];
/// Columns of names, which share the room that the others leave.
const NAMES: std::ops::Range<usize> = 2..5;
/// Columns of numbers, aligned to the right.
const NUMBERS: std::ops::Range<usize> = 5..7;
const GAP: &str = "  ";
/// Below this width of the window, times have no year.
const WIDE: usize = 100;

/// Lines of a table: a header, and a line for each chain. `width` is that of the window, in columns.
pub(super) fn lines<'c>(chains: impl Iterator<Item = &'c ChainSummary>, width: usize) -> Vec<String> {
    let mut rows = vec![HEADER.map(str::to_owned)];
    rows.extend(chains.map(|chain| row(chain, width)));
    let mut widths: [usize; HEADER.len()] =
        std::array::from_fn(|at| rows.iter().map(|cells| cells[at].width()).max().unwrap_or(0));
    let gaps = GAP.len() * (HEADER.len() - 1);
    let others: usize = widths.iter().enumerate().filter(|(at, _)| !NAMES.contains(at)).map(|(_, w)| w).sum();
    share(&mut widths[NAMES], width.saturating_sub(others + gaps));
    rows.iter()
        .map(|cells| {
            let cells: Vec<String> = cells.iter().zip(widths).enumerate().map(|(at, (c, w))| pad(at, c, w)).collect();
            cells.join(GAP).trim_end().to_owned()
        })
        .collect()
}

fn row(chain: &ChainSummary, width: usize) -> [String; HEADER.len()] {
    let names = |names: &[String]| names.iter().map(|name| escape(name)).collect::<Vec<_>>().join(", ");
    let who = if chain.requesters.is_empty() { "(unknown)".to_owned() } else { names(&chain.requesters) };
    // `2026-08-20T14:00:00Z`, to the minute.
    let from = if width < WIDE { 5 } else { 0 };
    let when = chain.ended.get(from..16).unwrap_or(&chain.ended).replace('T', " ");
    let count = |n: u64| if n == 0 { "-".to_owned() } else { n.to_string() };
    [
        chain.chain_id.clone(),
        when,
        who,
        names(&chain.agents),
        names(&chain.tools),
        count(chain.denied),
        count(chain.widened),
    ]
}

/// Cuts the widest widths until all of them together fit into `room`.
fn share(widths: &mut [usize], room: usize) {
    let wanted: usize = widths.iter().sum();
    if wanted <= room {
        return;
    }
    let mut order: Vec<usize> = (0..widths.len()).collect();
    order.sort_by_key(|at| widths[*at]);
    let (mut left, mut columns) = (room, widths.len());
    for at in order {
        widths[at] = widths[at].min(left / columns);
        left -= widths[at];
        columns -= 1;
    }
}

/// A cell of exactly `width` columns.
fn pad(at: usize, cell: &str, width: usize) -> String {
    let cell = cut(cell, width);
    let space = " ".repeat(width - cell.width());
    if NUMBERS.contains(&at) { space + &cell } else { cell + &space }
}

/// A text of at most `width` columns; what was cut ends in an ellipsis.
fn cut(text: &str, width: usize) -> String {
    if text.width() <= width {
        return text.to_owned();
    }
    let mut left = width.saturating_sub(1);
    let fits = |c: &char| match left.checked_sub(c.width().unwrap_or(0)) {
        Some(rest) => {
            left = rest;
            true
        }
        None => false,
    };
    let kept: String = text.chars().take_while(fits).collect();
    if width == 0 { kept } else { kept + "…" }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chain(who: &[&str], agents: &[&str], tools: &[&str], denied: u64) -> ChainSummary {
        let owned = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
        ChainSummary {
            chain_id: "c-0123456789abcdef0123".into(),
            requesters: owned(who),
            agents: owned(agents),
            tools: owned(tools),
            ended: "2026-08-20T14:03:00.5Z".into(),
            denied,
            ..ChainSummary::default()
        }
    }

    fn check(width: usize, chains: &[ChainSummary], expected: &[&str]) {
        assert_eq!(lines(chains.iter(), width), expected, "{width}");
    }

    #[test]
    fn a_table_fits_the_window() {
        let few =
            [chain(&["alice"], &["agent:p", "client:cc"], &["delete", "read"], 2), chain(&[], &[], &["x\u{1b}[2J"], 0)];
        check(
            120,
            &few,
            &[
                "chain                   when              who        agents              tools         denied  widened",
                "c-0123456789abcdef0123  2026-08-20 14:03  alice      agent:p, client:cc  delete, read       2        -",
                "c-0123456789abcdef0123  2026-08-20 14:03  (unknown)                      x\\u{1b}[2J         -        -",
            ],
        );
        check(
            80,
            &few,
            &[
                "chain                   when         who      agents    tools    denied  widened",
                "c-0123456789abcdef0123  08-20 14:03  alice    agent:p…  delete…       2        -",
                "c-0123456789abcdef0123  08-20 14:03  (unkno…            x\\u{1b…       -        -",
            ],
        );
    }

    #[test]
    fn every_width_is_kept() {
        let long = "a very long name with 東京 and more of it".repeat(3);
        let chains = [chain(&[&long], &[&long, "b"], &["t"], 1_000_000), chain(&["é"], &[], &[&long], 3)];
        for width in 70..400 {
            for line in lines(chains.iter(), width) {
                assert!(line.width() <= width, "{width}: {line}");
            }
        }
    }

    #[test]
    fn room_that_one_column_leaves_goes_to_the_others() {
        let mut widths = [5, 40, 40];
        share(&mut widths, 45);
        assert_eq!(widths, [5, 20, 20]);
        let mut widths = [5, 10, 40];
        share(&mut widths, 45);
        assert_eq!(widths, [5, 10, 30]);
    }
}
