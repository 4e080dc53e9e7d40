//! What a pickle can hold, in one flat list: no recursion, so that no nesting can exhaust the program's stack.

use tch::Kind;

/// The place of a value in [`Values`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Id(usize);

/// One value of a pickle; containers name their contents by place.
#[derive(Debug)]
pub(super) enum Value {
    None,
    Int(i64),
    Text(String),
    Tuple(Vec<Id>),
    List(Vec<Id>),
    Dict(Vec<(Id, Id)>),
    Global(Global),
    Storage(Box<StorageRecord>),
    Tensor(Box<TensorRecord>),
    /// Something that weights cannot depend on, such as a float or a bool; only its kind is kept.
    Other(&'static str),
}

/// The classes and functions that a pickle may name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Global {
    OrderedDict,
    RebuildTensor,
    RebuildParameter,
    /// A class of storages, such as `FloatStorage`, and its elements.
    Storage(&'static str, Kind),
}

/// A storage as the pickle describes it; its bytes are elsewhere in the file.
#[derive(Debug)]
pub(super) struct StorageRecord {
    pub(super) key: String,
    pub(super) class: &'static str,
    pub(super) kind: Kind,
    /// Number of elements.
    pub(super) count: i64,
}

/// A tensor as the pickle describes it; all in elements, checked to lie within its storage.
#[derive(Debug)]
pub(super) struct TensorRecord {
    pub(super) storage: Id,
    pub(super) offset: i64,
    pub(super) shape: Vec<i64>,
    pub(super) strides: Vec<i64>,
}

/// Every value of a pickle; `root` is the pickled one.
#[derive(Debug)]
pub(super) struct Values {
    list: Vec<Value>,
    root: Id,
}

impl Values {
    pub(super) fn new() -> Self {
        Self { list: vec![Value::None], root: Id(0) }
    }

    pub(super) fn push(&mut self, value: Value) -> Id {
        self.list.push(value);
        Id(self.list.len() - 1)
    }

    pub(super) fn get(&self, id: Id) -> &Value {
        &self.list[id.0]
    }

    pub(super) fn get_mut(&mut self, id: Id) -> &mut Value {
        &mut self.list[id.0]
    }

    /// Every storage, as often as the pickle names it.
    pub(super) fn storages(&self) -> impl Iterator<Item = &StorageRecord> {
        self.list.iter().filter_map(|value| match value {
            Value::Storage(record) => Some(record.as_ref()),
            _ => None,
        })
    }

    pub(super) fn root(&self) -> Id {
        self.root
    }

    pub(super) fn set_root(&mut self, root: Id) {
        self.root = root;
    }

    /// The value's kind in words, for errors.
    pub(super) fn describe(&self, id: Id) -> &'static str {
        match self.get(id) {
            Value::None => "None",
            Value::Int(_) => "an integer",
            Value::Text(_) => "a string",
            Value::Tuple(_) => "a tuple",
            Value::List(_) => "a list",
            Value::Dict(_) => "a dictionary",
            Value::Global(_) => "a class or function",
            Value::Storage(_) => "a storage",
            Value::Tensor(_) => "a tensor",
            Value::Other(kind) => kind,
        }
    }
}
