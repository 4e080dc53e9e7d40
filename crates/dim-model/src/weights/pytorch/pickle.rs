//! Reads the pickles of `torch.save`, protocols 2 to 5, into [`Values`]; executes nothing.
//!
//! A pickle is a program for a stack machine. This one has the instructions that a dictionary of tensors, numbers and
//! strings compiles to; each makes at most one value, so memory stays in proportion to the pickle.
//! The instructions are described in CPython's `Lib/pickletools.py`.

use std::collections::BTreeMap;

use super::{
    cursor::Cursor,
    globals,
    value::{Id, Value, Values},
};

/// Why a pickle cannot be read, and at which byte.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct PickleError {
    pub(super) at: usize,
    pub(super) problem: Problem,
}

#[derive(Debug, PartialEq, Eq)]
pub(super) enum Problem {
    /// A class or function that is not on the list.
    Global(String),
    /// Bytes that are not a pickle, or not one of tensors.
    Malformed { expected: String, got: String },
}

/// The pickle's value and all that it holds.
pub(super) fn read(bytes: &[u8]) -> Result<Values, PickleError> {
    Ok(read_first(bytes)?.0)
}

/// As [`read`], of the pickle at the start of `bytes`; also its length in bytes.
pub(super) fn read_first(bytes: &[u8]) -> Result<(Values, usize), PickleError> {
    let mut machine = Machine {
        cursor: Cursor::new(bytes),
        values: Values::new(),
        stack: Vec::new(),
        marks: Vec::new(),
        memo: BTreeMap::new(),
    };
    while !machine.step()? {}
    Ok((machine.values, machine.cursor.at()))
}

struct Machine<'a> {
    cursor: Cursor<'a>,
    values: Values,
    stack: Vec<Id>,
    /// Heights of the stack at the MARK instructions still open.
    marks: Vec<usize>,
    memo: BTreeMap<u32, Id>,
}

impl Machine<'_> {
    /// Executes one instruction; true at the last.
    fn step(&mut self) -> Result<bool, PickleError> {
        let instruction = self.cursor.u8()?;
        match instruction {
            // PROTO, FRAME: nothing to do but to pass over the argument.
            0x80 => drop(self.cursor.take(1)?),
            0x95 => drop(self.cursor.take(8)?),
            // STOP
            b'.' => {
                let root = self.pop()?;
                self.values.set_root(root);
                return Ok(true);
            }
            // MARK, POP, POP_MARK, DUP
            b'(' => self.marks.push(self.stack.len()),
            b'0' => drop(self.pop()?),
            b'1' => drop(self.pop_to_mark()?),
            b'2' => {
                let top = self.top()?;
                self.stack.push(top);
            }
            b'N' | 0x88 | 0x89 | b'K' | b'M' | b'J' | 0x8a | 0x8b | b'G' => self.number(instruction)?,
            b'X' | 0x8c | 0x8d | b'U' | b'T' | b'C' | b'B' | 0x8e => self.text(instruction)?,
            b')' | 0x85..=0x87 | b't' | b']' | b'a' | b'e' | b'}' | b's' | b'u' | 0x8f | 0x90 | 0x91 => {
                self.container(instruction)?;
            }
            b'q' | b'r' | 0x94 | b'h' | b'j' => self.memory(instruction)?,
            b'c' | 0x93 | b'R' | b'b' | b'Q' => self.object(instruction)?,
            _ => {
                let got = format!("0x{instruction:02x}");
                return Err(self.cursor.malformed("an instruction of a pickle of tensors", got));
            }
        }
        Ok(false)
    }

    fn number(&mut self, instruction: u8) -> Result<(), PickleError> {
        let value = match instruction {
            b'N' => Value::None,
            // NEWTRUE, NEWFALSE
            0x88 | 0x89 => Value::Other("a bool"),
            // BININT1, BININT2, BININT
            b'K' => Value::Int(self.cursor.u8()?.into()),
            b'M' => Value::Int(self.cursor.u16()?.into()),
            b'J' => Value::Int(self.cursor.i32()?.into()),
            // LONG1, LONG4
            0x8a | 0x8b => {
                let length = if instruction == 0x8a { self.cursor.u8()?.into() } else { self.cursor.u32()? as usize };
                integer(self.cursor.take(length)?)
            }
            // BINFLOAT
            _ => {
                self.cursor.take(8)?;
                Value::Other("a float")
            }
        };
        self.push(value);
        Ok(())
    }

    fn text(&mut self, instruction: u8) -> Result<(), PickleError> {
        let length = match instruction {
            // SHORT_BINUNICODE, SHORT_BINSTRING, SHORT_BINBYTES
            0x8c | b'U' | b'C' => self.cursor.u8()?.into(),
            // BINUNICODE, BINSTRING, BINBYTES
            b'X' | b'T' | b'B' => self.cursor.u32()? as usize,
            // BINUNICODE8, BINBYTES8
            _ => self.cursor.length_u64()?,
        };
        let value = match instruction {
            b'C' | b'B' | 0x8e => {
                self.cursor.take(length)?;
                Value::Other("bytes")
            }
            _ => Value::Text(self.cursor.text(length)?.to_owned()),
        };
        self.push(value);
        Ok(())
    }

    fn container(&mut self, instruction: u8) -> Result<(), PickleError> {
        match instruction {
            // EMPTY_TUPLE, EMPTY_LIST, EMPTY_DICT, EMPTY_SET
            b')' => self.push(Value::Tuple(Vec::new())),
            b']' => self.push(Value::List(Vec::new())),
            b'}' => self.push(Value::Dict(Vec::new())),
            0x8f => self.push(Value::Other("a set")),
            // TUPLE1, TUPLE2, TUPLE3
            0x85..=0x87 => {
                let start = self.stack.len().checked_sub(usize::from(instruction) - 0x84);
                let start = start.filter(|&start| start >= self.floor()).ok_or_else(|| self.underflow())?;
                let items = self.stack.split_off(start);
                self.push(Value::Tuple(items));
            }
            // TUPLE, FROZENSET
            b't' => {
                let items = self.pop_to_mark()?;
                self.push(Value::Tuple(items));
            }
            0x91 => {
                self.pop_to_mark()?;
                self.push(Value::Other("a set"));
            }
            // APPEND, APPENDS, ADDITEMS
            b'a' => {
                let item = self.pop()?;
                self.append(vec![item])?;
            }
            b'e' | 0x90 => {
                let items = self.pop_to_mark()?;
                self.append(items)?;
            }
            // SETITEM, SETITEMS
            b's' => {
                let value = self.pop()?;
                let key = self.pop()?;
                self.set_items(vec![key, value])?;
            }
            _ => {
                let items = self.pop_to_mark()?;
                self.set_items(items)?;
            }
        }
        Ok(())
    }

    fn memory(&mut self, instruction: u8) -> Result<(), PickleError> {
        let place = match instruction {
            // BINPUT, BINGET
            b'q' | b'h' => self.cursor.u8()?.into(),
            // LONG_BINPUT, LONG_BINGET
            b'r' | b'j' => self.cursor.u32()?,
            // MEMOIZE
            _ => u32::try_from(self.memo.len()).unwrap_or(u32::MAX),
        };
        if matches!(instruction, b'h' | b'j') {
            let Some(&value) = self.memo.get(&place) else {
                return Err(self.cursor.malformed("a value in the memo", format!("none at {place}")));
            };
            self.stack.push(value);
        } else {
            let top = self.top()?;
            self.memo.insert(place, top);
        }
        Ok(())
    }

    fn object(&mut self, instruction: u8) -> Result<(), PickleError> {
        match instruction {
            // GLOBAL, STACK_GLOBAL
            b'c' => {
                let (module, name) = (self.cursor.line()?, self.cursor.line()?);
                self.global(module, name)
            }
            0x93 => {
                let (name, module) = (self.pop()?, self.pop()?);
                match (self.values.get(module), self.values.get(name)) {
                    (Value::Text(module), Value::Text(name)) => self.global(&module.clone(), &name.clone()),
                    _ => Err(self.cursor.malformed("the name of a class", self.values.describe(name))),
                }
            }
            // REDUCE
            b'R' => {
                let (arguments, function) = (self.pop()?, self.pop()?);
                let result = globals::call(&mut self.values, function, arguments);
                self.push_result(result)
            }
            // BUILD sets attributes, which only the ordered dictionary of a state dictionary has (`_metadata`).
            b'b' => {
                self.pop()?;
                let target = self.top()?;
                match self.values.get(target) {
                    Value::Dict(_) => Ok(()),
                    _ => Err(self.cursor.malformed("attributes of a dictionary", self.values.describe(target))),
                }
            }
            // BINPERSID
            _ => {
                let identifier = self.pop()?;
                let storage = globals::storage(&self.values, identifier)
                    .map(|record| self.values.push(Value::Storage(Box::new(record))));
                self.push_result(storage)
            }
        }
    }

    fn global(&mut self, module: &str, name: &str) -> Result<(), PickleError> {
        let Some(global) = globals::find(module, name) else {
            return Err(PickleError { at: self.cursor.at(), problem: Problem::Global(format!("{module}.{name}")) });
        };
        self.push(Value::Global(global));
        Ok(())
    }

    fn push_result(&mut self, result: Result<Id, (String, String)>) -> Result<(), PickleError> {
        let id = result.map_err(|(expected, got)| self.cursor.malformed(expected, got))?;
        self.stack.push(id);
        Ok(())
    }

    fn append(&mut self, items: Vec<Id>) -> Result<(), PickleError> {
        let target = self.top()?;
        match self.values.get_mut(target) {
            Value::List(list) => list.extend(items),
            Value::Other("a set") => {}
            _ => return Err(self.cursor.malformed("a list or set to add to", self.values.describe(target))),
        }
        Ok(())
    }

    /// Keys and values in turn.
    fn set_items(&mut self, items: Vec<Id>) -> Result<(), PickleError> {
        let target = self.top()?;
        if !items.len().is_multiple_of(2) {
            return Err(self.cursor.malformed("a value for every key", format!("{} of both", items.len())));
        }
        match self.values.get_mut(target) {
            Value::Dict(pairs) => pairs.extend(items.chunks_exact(2).map(|pair| (pair[0], pair[1]))),
            _ => return Err(self.cursor.malformed("a dictionary to add to", self.values.describe(target))),
        }
        Ok(())
    }

    fn push(&mut self, value: Value) {
        let id = self.values.push(value);
        self.stack.push(id);
    }

    /// The height below which the stack belongs to an open MARK.
    fn floor(&self) -> usize {
        self.marks.last().copied().unwrap_or(0)
    }

    fn pop(&mut self) -> Result<Id, PickleError> {
        let top = self.top()?;
        self.stack.pop();
        Ok(top)
    }

    fn top(&self) -> Result<Id, PickleError> {
        self.stack[self.floor()..].last().copied().ok_or_else(|| self.underflow())
    }

    fn pop_to_mark(&mut self) -> Result<Vec<Id>, PickleError> {
        let mark = self.marks.pop().ok_or_else(|| self.cursor.malformed("a mark on the stack", "none"))?;
        Ok(self.stack.split_off(mark))
    }

    fn underflow(&self) -> PickleError {
        self.cursor.malformed("a value on the stack", "none")
    }
}

/// A little-endian integer in two's complement; one of more than 64 bits is no size, stride or count.
fn integer(bytes: &[u8]) -> Value {
    let Some(last) = bytes.last() else { return Value::Int(0) };
    if bytes.len() > 8 {
        return Value::Other("an integer of more than 64 bits");
    }
    let mut extended = [if last & 0x80 == 0 { 0 } else { 0xff }; 8];
    extended[..bytes.len()].copy_from_slice(bytes);
    Value::Int(i64::from_le_bytes(extended))
}

#[cfg(test)]
#[path = "pickle_tests.rs"]
mod tests;
