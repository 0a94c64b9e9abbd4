//! Bytes of values.
//!
//! Guarantee: what is counted is what the values hold, also where a column is a view into other buffers: Arrow's own count
//! leaves out the bytes that views point to.

use arrow::array::ArrayData;
use arrow_array::Array;
use arrow_schema::{ArrowError, DataType};

/// Bytes up to which a view holds its value itself.
const INLINE_BYTES: u64 = 12;

/// Bytes of the values of a column, without what else its buffers hold.
pub(crate) fn array_bytes(array: &dyn Array) -> Result<u64, ArrowError> {
    let data = array.to_data();
    Ok((data.get_slice_memory_size()? as u64).saturating_add(viewed(&data)))
}

/// Bytes that views point to.
fn viewed(data: &ArrayData) -> u64 {
    let children = data.child_data().iter().map(viewed).fold(0, u64::saturating_add);
    lengths(data).filter(|bytes| *bytes > INLINE_BYTES).fold(children, u64::saturating_add)
}

/// Lengths of the values of views; nothing for columns of other types.
fn lengths(data: &ArrayData) -> impl Iterator<Item = u64> {
    let is_view = matches!(data.data_type(), DataType::Utf8View | DataType::BinaryView);
    let views: &[u128] = if is_view { &data.buffer::<u128>(0)[..data.len()] } else { &[] };
    // The low half of a view begins with the length.
    views.iter().map(|view| u64::from(*view as u32))
}

/// Bytes of the longest value of a column of views.
pub(crate) fn longest_view(array: &dyn Array) -> u64 {
    lengths(&array.to_data()).max().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow_array::{ArrayRef, BinaryViewArray, ListArray, StringArray, StringViewArray};
    use arrow_schema::Field;
    use std::sync::Arc;

    #[test]
    fn what_views_point_to_counts() {
        let long = "x".repeat(1000);
        let texts = StringViewArray::from(vec![Some(long.as_str()), None, Some("short"), Some(&long)]);
        let check = |array: &dyn Array, longest: u64, least: u64| {
            let bytes = array_bytes(array).unwrap();
            assert!((least..least + 200).contains(&bytes), "{bytes}");
            assert_eq!(longest_view(array), longest);
        };
        check(&texts, 1000, 2000);
        check(&texts.slice(1, 2), 5, 0);
        check(&BinaryViewArray::from(vec![long.as_bytes()]), 1000, 1000);
        check(&StringArray::from(vec![long.as_str()]), 0, 1000);
        let items: ArrayRef = Arc::new(texts);
        let list = ListArray::new(
            Arc::new(Field::new("item", DataType::Utf8View, true)),
            arrow::buffer::OffsetBuffer::from_lengths([4]),
            items,
            None,
        );
        check(&list, 0, 2000);
    }
}
