//! JSON files: one object, its members strings.
//!
//! serde_json lends strings without escapes from the text itself, in the arena; from there they are
//! copied to their own place.

use serde::de::{DeserializeSeed, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::error::Category;

use super::{Entry, copy};
use crate::admin::Error;
use crate::memory::{self, Arena};

const NO_STRING: &str = "the value is not a string; put it into quotes";

pub(super) fn entries<'a>(text: &[u8], arena: &'a Arena) -> Result<Vec<Entry<'a>>, Error> {
    let mut reader = Object { arena, entries: Vec::new(), failure: None };
    let mut json = serde_json::Deserializer::from_slice(text);
    let read = (&mut reader).deserialize(&mut json).and_then(|()| json.end());
    if let Some(failure) = reader.failure {
        return Err(failure.into());
    }
    match read {
        Ok(()) => Ok(reader.entries),
        // The error's own text may quote a value.
        Err(error) => {
            let fault = match error.classify() {
                Category::Data => "there is something else than one object of strings",
                _ => "this is not JSON",
            };
            Err(format!("line {}, column {}: {fault}", error.line(), error.column()).into())
        }
    }
}

struct Object<'a> {
    arena: &'a Arena,
    entries: Vec<Entry<'a>>,
    failure: Option<memory::Error>,
}

impl<'de> DeserializeSeed<'de> for &mut Object<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, json: D) -> Result<(), D::Error> {
        json.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for &mut Object<'_> {
    type Value = ();

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("an object of strings")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<(), A::Error> {
        while let Some(name) = members.next_key()? {
            let value = match members.next_value_seed(Value(self.arena))? {
                Ok(Some(value)) => Ok(value),
                Ok(None) => Err(NO_STRING.into()),
                Err(failure) => {
                    self.failure = Some(failure);
                    return Err(serde::de::Error::custom("no memory"));
                }
            };
            self.entries.push(Entry { name, value });
        }
        Ok(())
    }
}

/// A string's place in the arena; `None` for anything else, which is passed over.
struct Value<'a>(&'a Arena);

impl<'a> Value<'a> {
    fn none<E>(self) -> Result<Found<'a>, E> {
        Ok(Ok(None))
    }
}

type Found<'a> = Result<Option<&'a mut [u8]>, memory::Error>;

impl<'de, 'a> DeserializeSeed<'de> for Value<'a> {
    type Value = Found<'a>;

    fn deserialize<D: Deserializer<'de>>(self, json: D) -> Result<Self::Value, D::Error> {
        json.deserialize_any(self)
    }
}

impl<'de, 'a> Visitor<'de> for Value<'a> {
    type Value = Found<'a>;

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("a string")
    }

    fn visit_str<E>(self, text: &str) -> Result<Self::Value, E> {
        Ok(copy(text.as_bytes(), self.0).map(Some))
    }

    fn visit_bool<E>(self, _: bool) -> Result<Self::Value, E> {
        self.none()
    }

    fn visit_i64<E>(self, _: i64) -> Result<Self::Value, E> {
        self.none()
    }

    fn visit_u64<E>(self, _: u64) -> Result<Self::Value, E> {
        self.none()
    }

    fn visit_f64<E>(self, _: f64) -> Result<Self::Value, E> {
        self.none()
    }

    fn visit_unit<E>(self) -> Result<Self::Value, E> {
        self.none()
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut elements: A) -> Result<Self::Value, A::Error> {
        while elements.next_element::<IgnoredAny>()?.is_some() {}
        self.none()
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<Self::Value, A::Error> {
        while members.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
        self.none()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strings_are_taken_and_all_else_is_refused() {
        let arena = Arena::new().unwrap();
        let text =
            r#"{"A": "a\"1", "slack/b": "é", "C": 5, "D": null, "E": {"x": [1]}, "F": [2], "G": 1.5, "H": true}"#;
        let found = entries(text.as_bytes(), &arena).unwrap();
        let values: Vec<(&str, Option<&[u8]>)> =
            found.iter().map(|entry| (entry.name.as_str(), entry.value.as_deref().ok())).collect();
        assert_eq!(&values[..2], [("A", Some(&b"a\"1"[..])), ("slack/b", Some("é".as_bytes()))]);
        assert_eq!(values.len(), 8);
        assert!(values[2..].iter().all(|(_, value)| value.is_none()));
    }

    #[test]
    fn a_fault_is_told_by_its_place_alone() {
        let arena = Arena::new().unwrap();
        for (text, expected) in [
            ("[\"sk-secret\"]", "line 1, column 0: there is something else than one object of strings"),
            ("\"sk-secret\"", "line 1, column 11: there is something else than one object of strings"),
            ("{\"A\": \"sk-secret\"", "line 1, column 17: this is not JSON"),
            ("{\"A\":\n sk-secret}", "line 2, column 2: this is not JSON"),
            ("{} x", "line 1, column 4: this is not JSON"),
        ] {
            let error = entries(text.as_bytes(), &arena).err().unwrap().to_string();
            assert_eq!(error, expected, "{text}");
        }
    }
}
