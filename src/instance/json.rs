//! JSON that decides something: duplicate keys are refused, order is kept, nothing is guessed.
//!
//! serde_json alone lets the last of two equal keys win, so that a reviewer and the program
//! could read different things in one file.

use std::fmt;

use serde::de::{self, Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};

/// A JSON text as it stands (RFC 8259).
#[derive(Clone, Debug, PartialEq)]
pub enum Tree {
    /// `null`
    Null,
    /// `true` or `false`
    Bool(bool),
    /// Any number; as an unsigned integer where it is one.
    Number(Option<u64>),
    /// A string.
    String(String),
    /// An array.
    Array(Vec<Tree>),
    /// An object, its members in the order of the text, each key once.
    Object(Vec<(String, Tree)>),
}

/// The largest text that is read: definitions and configurations are small.
const MAX_BYTES: usize = 1 << 20;

impl Tree {
    /// Parses one whole text. The error names line and column.
    pub fn parse(text: &[u8]) -> Result<Self, String> {
        if text.len() > MAX_BYTES {
            return Err(format!("is larger than {MAX_BYTES} bytes"));
        }
        serde_json::from_slice(text).map_err(|error| error.to_string())
    }

    /// The member of an object.
    pub fn get(&self, key: &str) -> Option<&Tree> {
        self.members().iter().find(|(name, _)| name == key).map(|(_, value)| value)
    }

    /// The members of an object, in their order; anything else has none.
    pub fn members(&self) -> &[(String, Tree)] {
        match self {
            Self::Object(members) => members,
            _ => &[],
        }
    }

    /// The text of a string.
    pub fn as_str(&self) -> Option<&str> {
        match self {
            Self::String(text) => Some(text),
            _ => None,
        }
    }

    /// Each string in it, keys too.
    pub fn strings(&self) -> Vec<&str> {
        let mut found = Vec::new();
        self.add_strings(&mut found);
        found
    }

    fn add_strings<'t>(&'t self, found: &mut Vec<&'t str>) {
        match self {
            Self::String(text) => found.push(text),
            Self::Array(elements) => elements.iter().for_each(|element| element.add_strings(found)),
            Self::Object(members) => members.iter().for_each(|(key, value)| {
                found.push(key);
                value.add_strings(found);
            }),
            Self::Null | Self::Bool(_) | Self::Number(_) => {}
        }
    }
}

/// What a value is, for error texts.
pub fn kind_of(tree: &Tree) -> &'static str {
    match tree {
        Tree::Null => "null",
        Tree::Bool(_) => "a boolean",
        Tree::Number(_) => "a number",
        Tree::String(_) => "a string",
        Tree::Array(_) => "an array",
        Tree::Object(_) => "an object",
    }
}

impl<'de> Deserialize<'de> for Tree {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(TreeVisitor)
    }
}

struct TreeVisitor;

impl<'de> Visitor<'de> for TreeVisitor {
    type Value = Tree;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_unit<E>(self) -> Result<Tree, E> {
        Ok(Tree::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Tree, E> {
        Ok(Tree::Bool(value))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Tree, E> {
        Ok(Tree::Number(Some(value)))
    }

    fn visit_i64<E>(self, _: i64) -> Result<Tree, E> {
        Ok(Tree::Number(None))
    }

    fn visit_f64<E>(self, _: f64) -> Result<Tree, E> {
        Ok(Tree::Number(None))
    }

    fn visit_str<E>(self, value: &str) -> Result<Tree, E> {
        Ok(Tree::String(value.to_owned()))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut sequence: A) -> Result<Tree, A::Error> {
        let mut elements = Vec::new();
        while let Some(element) = sequence.next_element()? {
            elements.push(element);
        }
        Ok(Tree::Array(elements))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Tree, A::Error> {
        let mut members: Vec<(String, Tree)> = Vec::new();
        while let Some(key) = map.next_key::<String>()? {
            if members.iter().any(|(known, _)| *known == key) {
                let key = key.escape_debug();
                return Err(de::Error::custom(format!("the key \"{key}\" stands twice")));
            }
            members.push((key, map.next_value()?));
        }
        Ok(Tree::Object(members))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn duplicate_keys_are_refused_at_any_depth() {
        for text in [r#"{"a":1,"a":2}"#, r#"{"x":[{"a":1,"b":{"c":1,"c":1}}]}"#, r#"{"a":1,"\u0061":2}"#] {
            let error = Tree::parse(text.as_bytes()).unwrap_err();
            assert!(error.contains("stands twice"), "{error}");
        }
    }

    #[test]
    fn what_is_not_one_json_text_is_refused() {
        for text in ["", "{", "{} {}", "{a:1}", "[1,]", "\u{feff}{}", "nul", "\"\\ud800\""] {
            assert!(Tree::parse(text.as_bytes()).is_err(), "{text}");
        }
        let deep = "[".repeat(100_000);
        assert!(Tree::parse(deep.as_bytes()).is_err());
        assert!(Tree::parse(&vec![b' '; MAX_BYTES + 1]).is_err());
    }

    #[test]
    fn strings_lists_keys_and_values() {
        let tree = Tree::parse(br#"{"a":["b",{"c":"d"}],"e":1}"#).unwrap();
        let mut strings = tree.strings();
        strings.sort_unstable();
        assert_eq!(strings, ["a", "b", "c", "d", "e"]);
    }
}
