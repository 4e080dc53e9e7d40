//! Which dictionary of a PyTorch file holds the weights.

use std::collections::BTreeMap;

use super::value::{Id, TensorRecord, Value, Values};

/// Under these keys training programs save a state dictionary beside other things.
const USUAL_KEYS: [&str; 3] = ["state_dict", "model", "ema"];

/// Names and tensors in the file's order.
type Tensors<'a> = Vec<(&'a str, &'a TensorRecord)>;

/// The tensors of the dictionary `key`, or without a key those of the only one that can be meant.
///
/// That is the outermost dictionary if no other has tensors; otherwise the only one with tensors, or the only one under
/// a usual key. On failure, the key (`""` for the outermost) and number of tensors of every dictionary.
pub(super) fn find<'a>(values: &'a Values, key: Option<&str>) -> Result<Tensors<'a>, Vec<(String, usize)>> {
    let mut dictionaries = vec![("", values.root())];
    dictionaries.extend(items(values, values.root()));
    let mut counts = BTreeMap::new(); // a hostile file may have one large dictionary under a million keys
    let mut count = |id| *counts.entry(id).or_insert_with(|| tensors(values, id).len());
    dictionaries.retain(|(_, id)| count(*id) > 0);

    let only = |wanted: &dyn Fn(&str) -> bool| {
        let mut found = dictionaries.iter().filter(|(name, _)| wanted(name));
        found.next().filter(|_| found.next().is_none())
    };
    let chosen = match key {
        Some(key) => only(&|name| name == key),
        None => only(&|_| true).or_else(|| only(&|name| USUAL_KEYS.contains(&name))),
    };
    match chosen {
        Some((_, id)) => Ok(tensors(values, *id)),
        None => Err(dictionaries.iter().map(|(name, id)| ((*name).to_owned(), count(*id))).collect()),
    }
}

/// The tensors that stand directly in a dictionary; other values, such as a step count, are passed over.
fn tensors(values: &Values, dictionary: Id) -> Tensors<'_> {
    items(values, dictionary)
        .into_iter()
        .filter_map(|(name, value)| match values.get(value) {
            Value::Tensor(tensor) => Some((name, tensor.as_ref())),
            _ => None,
        })
        .collect()
}

/// The items of a dictionary whose keys are text; a key that was set twice has its last value, as in Python.
fn items(values: &Values, dictionary: Id) -> Vec<(&str, Id)> {
    let Value::Dict(pairs) = values.get(dictionary) else { return Vec::new() };
    let mut places = BTreeMap::new();
    let mut items: Vec<(&str, Id)> = Vec::new();
    for (key, value) in pairs {
        let Value::Text(key) = values.get(*key) else { continue };
        let place = *places.entry(key.as_str()).or_insert(items.len());
        match items.get_mut(place) {
            Some(item) => item.1 = *value,
            None => items.push((key, *value)),
        }
    }
    items
}
