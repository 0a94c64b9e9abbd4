//! The report as text: aligned columns, one block per record, a table at the end.

use super::{Counts, Report, Told};
use std::fmt::{self, Display, Formatter};

impl Display for Report {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        for told in &self.records {
            block(told, f)?;
        }
        let Counts { allow, deny, other } = self.outcomes;
        writeln!(
            f,
            "{} decisions: {allow} allow, {deny} deny, {other} other; {} aside, {} rejected",
            allow + deny + other,
            self.asides,
            self.rejections
        )?;
        let filled: Vec<_> = self.fields.iter().filter(|c| c.filled != Counts::default()).collect();
        if filled.is_empty() {
            return Ok(());
        }
        let share = |n: usize, of: usize| if of == 0 { "-".to_owned() } else { format!("{n}/{of}") };
        let mut rows = vec![["field".to_owned(), "allow".into(), "deny".into(), "other".into()]];
        rows.extend(filled.iter().map(|c| {
            [c.field.to_owned(), share(c.filled.allow, allow), share(c.filled.deny, deny), share(c.filled.other, other)]
        }));
        writeln!(f)?;
        table(&rows, "", f)?;
        let empty: Vec<_> = self.empty().collect();
        if !empty.is_empty() {
            writeln!(f, "\nempty: {}", empty.join(", "))?;
        }
        Ok(())
    }
}

fn block(told: &Told, f: &mut Formatter<'_>) -> fmt::Result {
    write!(f, "record {}  {}", told.record, told.format)?;
    if let Some(mapping) = &told.mapping {
        write!(f, " by {mapping}")?;
    }
    match told.kind {
        "event" => write!(f, "  {}", told.verdict)?,
        kind => write!(f, "  {kind} {}", told.verdict)?,
    }
    if let Some(detail) = &told.detail {
        write!(f, ": {detail}")?;
    }
    if !told.flags.is_empty() {
        write!(f, "  [{}]", told.flags.join(", "))?;
    }
    writeln!(f)?;
    let from = |from: &Option<String>| from.clone().unwrap_or_default();
    let rows: Vec<_> = told.fields.iter().map(|x| [x.field.clone(), from(&x.from), x.value.clone()]).collect();
    table(&rows, "  ", f)?;
    if !told.unmapped.is_empty() {
        writeln!(f, "  unmapped:")?;
        let rows: Vec<_> = told.unmapped.iter().map(|u| [u.pointer.clone(), u.value.clone()]).collect();
        table(&rows, "    ", f)?;
    }
    writeln!(f)
}

/// Rows whose columns are as wide as their widest cell, within reason; nothing trails.
fn table<const N: usize>(rows: &[[String; N]], indent: &str, f: &mut Formatter<'_>) -> fmt::Result {
    const WIDTH_MAX: usize = 60;
    let width = |column: usize| {
        let widths = rows.iter().map(|r| r[column].chars().count());
        widths.max().unwrap_or_default().min(WIDTH_MAX)
    };
    let widths: Vec<usize> = (0..N).map(width).collect();
    for row in rows {
        let cells = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:<width$}", width = *width));
        let line = cells.collect::<Vec<_>>().join("  ");
        writeln!(f, "{indent}{}", line.trim_end())?;
    }
    Ok(())
}
