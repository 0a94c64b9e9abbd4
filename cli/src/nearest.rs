//! The known name that a mistyped one was meant to be.

/// `; did you mean `name`?`, or nothing when no known name is near: at most a third of its characters differ.
pub(crate) fn did_you_mean<'k>(name: &str, known: impl Iterator<Item = &'k str>) -> String {
    let nearest = known.map(|k| (strsim::levenshtein(name, k), k)).min();
    match nearest {
        Some((edits, k)) if edits <= 1 + name.len().max(k.len()) / 3 => format!("; did you mean `{k}`?"),
        _ => String::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_near_names_are_proposed() {
        let known = ["opa", "cerbos", "envoy"];
        for (name, proposal) in
            [("cerbs", "; did you mean `cerbos`?"), ("opaa", "; did you mean `opa`?"), ("kubernetes", "")]
        {
            assert_eq!(did_you_mean(name, known.into_iter()), proposal, "{name}");
        }
        assert_eq!(did_you_mean("opa", [].into_iter()), "");
    }
}
