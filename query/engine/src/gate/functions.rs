//! The functions that statements may call, by kind.
//!
//! Guarantee: a function that is not listed here never runs, whatever a later version of DataFusion adds. A listed one
//! either gives at most a small multiple of its arguments, or [`crate::bounded`] works its size and cost out first.
//!
//! Left out, with the reason that the caller sees: what says where files are or what the machine is, what makes values of
//! any size out of a number, what builds types (nested structs double with every level), and what costs the product of
//! its arguments.

use crate::error::{Code, QueryError, nearest};
use datafusion::execution::SessionStateDefaults;
use std::collections::BTreeSet;
use std::sync::LazyLock;

/// Functions of one row.
const SCALAR: &[&str] = &[
    // numbers
    "abs acos acosh asin asinh atan atan2 atanh cbrt ceil cos cosh cot degrees exp factorial floor gcd isnan iszero lcm ln",
    "log log10 log2 nanvl pi pow power radians rand random round signum sin sinh sqrt tan tanh trunc",
    // texts
    "ascii bit_length btrim char_length character_length chr concat concat_ws contains decode encode ends_with find_in_set",
    "initcap instr left length lower ltrim octet_length overlay position regexp_count regexp_instr regexp_like regexp_match",
    "regexp_replace replace reverse right rtrim split_part starts_with strpos substr substr_index substring",
    "substring_index to_hex translate trim upper uuid",
    // choices
    "coalesce greatest ifnull least nullif nvl nvl2",
    // times
    "current_date current_time current_timestamp date_bin date_format date_part date_trunc datepart datetrunc from_unixtime",
    "make_date make_time now to_char to_date to_local_time to_time to_timestamp to_timestamp_micros to_timestamp_millis",
    "to_timestamp_nanos to_timestamp_seconds to_unixtime today",
    // lists
    "array_any_value array_append array_cat array_concat array_contains array_dims array_distinct array_element array_empty",
    "array_except array_extract array_has array_has_all array_has_any array_indexof array_intersect array_join array_length",
    "array_max array_min array_ndims array_pop_back array_pop_front array_position array_positions array_prepend",
    "array_push_back array_push_front array_remove array_remove_all array_remove_n array_reverse array_slice array_sort",
    "array_to_string array_union arrays_overlap cardinality empty flatten list_any_value list_append list_cat list_concat",
    "list_contains list_dims list_distinct list_element list_empty list_except list_extract list_has list_has_all",
    "list_has_any list_indexof list_intersect list_join list_length list_max list_ndims list_pop_back",
    "list_pop_front list_position list_positions list_prepend list_push_back list_push_front list_remove list_remove_all",
    "list_remove_n list_reverse list_slice list_sort list_to_string list_union make_array make_list string_to_array",
    "string_to_list",
    // what a value is
    "arrow_typeof",
];

/// Functions of a group of rows that give one small value, whatever the group: they may also run over a window, where
/// each row gets a value of its own.
const SMALL_AGGREGATES: &[&str] = &[
    "avg bit_and bit_or bit_xor bool_and bool_or corr count covar covar_pop covar_samp first_value last_value max mean min",
    "nth_value regr_avgx regr_avgy regr_count regr_intercept regr_r2 regr_slope regr_sxx regr_sxy regr_syy stddev",
    "stddev_pop stddev_samp sum var var_pop var_population var_samp var_sample",
];

/// Functions of a group of rows that hold the whole group: over a window each row would get a copy of it.
const LARGE_AGGREGATES: &[&str] =
    &["any_value approx_distinct approx_median array_agg grouping median percentile_cont quantile_cont string_agg"];

/// Functions that only run over a window.
const WINDOW: &[&str] = &["cume_dist dense_rank lag lead ntile percent_rank rank row_number"];

/// What [`not_offered`] says of functions that people may miss.
const REASONS: &[(&str, &[&str])] = &[
    ("it shows where files are", &["input_file_name", "file_row_index"]),
    ("it shows what the machine is", &["version"]),
    (
        "it makes values of any size",
        &[
            "repeat",
            "lpad",
            "rpad",
            "array_repeat",
            "list_repeat",
            "array_resize",
            "list_resize",
            "arrow_cast",
            "arrow_try_cast",
            "array_replace",
            "array_replace_n",
            "array_replace_all",
            "list_replace",
            "list_replace_n",
            "list_replace_all",
        ],
    ),
    (
        "it builds a type that doubles with every level",
        &["struct", "row", "named_struct", "map", "make_map", "arrays_zip", "list_zip"],
    ),
    ("its cost is the product of its arguments", &["levenshtein"]),
];

/// Offered as table functions; as values they build a list of any size.
const ONLY_AS_TABLE: [&str; 2] = ["generate_series", "range"];

type Names = BTreeSet<&'static str>;

fn names(lists: &[&[&'static str]]) -> Names {
    lists.iter().copied().flatten().flat_map(|line| line.split(' ')).collect()
}

static ROWS: LazyLock<Names> = LazyLock::new(|| names(&[SCALAR, SMALL_AGGREGATES, LARGE_AGGREGATES, &["unnest"]]));
static OVER_WINDOWS: LazyLock<Names> = LazyLock::new(|| names(&[SMALL_AGGREGATES, WINDOW]));
static SCALARS: LazyLock<Names> = LazyLock::new(|| names(&[SCALAR]));

/// Every function that DataFusion would run.
static REGISTERED: LazyLock<BTreeSet<String>> = LazyLock::new(|| {
    let mut all = BTreeSet::new();
    for f in SessionStateDefaults::default_scalar_functions() {
        all.insert(f.name().to_owned());
        all.extend(f.aliases().iter().cloned());
    }
    for f in SessionStateDefaults::default_aggregate_functions() {
        all.insert(f.name().to_owned());
        all.extend(f.aliases().iter().cloned());
    }
    for f in SessionStateDefaults::default_window_functions() {
        all.insert(f.name().to_owned());
        all.extend(f.aliases().iter().cloned());
    }
    for f in SessionStateDefaults::default_higher_order_functions() {
        all.insert(f.name().to_owned());
        all.extend(f.aliases().iter().cloned());
    }
    all
});

/// Whether a scalar function may run; for those that the planner puts in for operators.
pub(crate) fn is_offered_scalar(name: &str) -> bool {
    SCALARS.contains(name)
}

/// Lets a call pass, or says why not. `name` is in lower case; `windowed` says that it has an `OVER`.
pub(super) fn check(name: &str, windowed: bool) -> Result<(), QueryError> {
    let offered = if windowed { &OVER_WINDOWS } else { &ROWS };
    if offered.contains(name) {
        return Ok(());
    }
    let refused = |why: String| Err(QueryError::new(Code::FunctionNotAllowed, why));
    if ONLY_AS_TABLE.contains(&name) {
        return refused(format!("the function `{name}` is not offered as a value; write `FROM {name}(...)`"));
    }
    if windowed && ROWS.contains(name) {
        return refused(format!(
            "the function `{name}` is not offered with OVER: each row would hold a copy of its window; use GROUP BY"
        ));
    }
    if !windowed && OVER_WINDOWS.contains(name) {
        return refused(format!("the function `{name}` needs an OVER clause"));
    }
    if let Some((why, _)) = REASONS.iter().find(|(_, names)| names.contains(&name)) {
        return refused(format!("the function `{name}` is not offered: {why}"));
    }
    let near = nearest(name, offered.iter().copied());
    let hint = match near.first() {
        Some(best) => format!("; did you mean `{best}`?"),
        None => String::new(),
    };
    if REGISTERED.contains(name) {
        return refused(format!("the function `{name}` is not offered{hint}"));
    }
    Err(QueryError::new(Code::UnknownFunction, format!("there is no function `{name}`{hint}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_listed_exists() {
        let listed = names(&[SCALAR, SMALL_AGGREGATES, LARGE_AGGREGATES, WINDOW]);
        let missing: Vec<_> = listed.iter().filter(|name| !REGISTERED.contains(**name)).collect();
        assert_eq!(missing, Vec::<&&str>::new());
        let refused: Vec<_> = REASONS.iter().flat_map(|(_, names)| *names).filter(|n| listed.contains(*n)).collect();
        assert!(refused.is_empty(), "offered and refused: {refused:?}");
    }

    #[test]
    fn each_refusal_names_the_way_out() {
        let said = |name: &str, windowed| check(name, windowed).err().map(|e| (e.code, e.message));
        let refused = |text: &str| Some((Code::FunctionNotAllowed, text.to_owned()));
        assert_eq!(said("lower", false), None);
        assert_eq!(said("sum", true), None);
        assert_eq!(said("repeat", false), refused("the function `repeat` is not offered: it makes values of any size"));
        assert_eq!(
            said("array_agg", true),
            refused(
                "the function `array_agg` is not offered with OVER: each row would hold a copy of its window; use GROUP BY"
            )
        );
        assert_eq!(said("rank", false), refused("the function `rank` needs an OVER clause"));
        assert_eq!(said("array_transform", false).map(|(code, _)| code), Some(Code::FunctionNotAllowed));
        assert_eq!(
            said("lowr", false),
            Some((Code::UnknownFunction, "there is no function `lowr`; did you mean `lower`?".to_owned()))
        );
    }
}
