//! Values out of YAML by their text, so that a file is parsed by the code that parses flags.

use std::fmt;
use std::marker::PhantomData;
use std::str::FromStr;

use serde::Deserializer;
use serde::de::Error;
use serde::de::SeqAccess;
use serde::de::Visitor;

/// A value by its text, whatever YAML takes it for: `300`, `true` and `info` alike.
pub(super) fn one<'de, D, T>(deserializer: D) -> Result<Option<T>, D::Error>
where
    D: Deserializer<'de>,
    T: FromStr,
    T::Err: fmt::Display,
{
    deserializer.deserialize_any(Text(PhantomData)).map(|mut values| values.pop())
}

/// A list of values, or one.
pub(super) fn many<'de, D, T>(deserializer: D) -> Result<Vec<T>, D::Error>
where
    D: Deserializer<'de>,
    T: FromStr,
    T::Err: fmt::Display,
{
    deserializer.deserialize_any(Texts(PhantomData))
}

struct Text<T>(PhantomData<T>);
struct Texts<T>(PhantomData<T>);

fn parsed<T, E>(text: &str) -> Result<Vec<T>, E>
where
    T: FromStr,
    T::Err: fmt::Display,
    E: Error,
{
    text.parse().map(|value| vec![value]).map_err(E::custom)
}

macro_rules! scalars {
    () => {
        fn visit_str<E: Error>(self, text: &str) -> Result<Self::Value, E> {
            parsed(text)
        }

        fn visit_u64<E: Error>(self, number: u64) -> Result<Self::Value, E> {
            parsed(&number.to_string())
        }

        fn visit_i64<E: Error>(self, number: i64) -> Result<Self::Value, E> {
            parsed(&number.to_string())
        }

        fn visit_f64<E: Error>(self, number: f64) -> Result<Self::Value, E> {
            parsed(&number.to_string())
        }

        fn visit_bool<E: Error>(self, truth: bool) -> Result<Self::Value, E> {
            parsed(&truth.to_string())
        }
    };
}

impl<T> Visitor<'_> for Text<T>
where
    T: FromStr,
    T::Err: fmt::Display,
{
    type Value = Vec<T>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("one value")
    }

    scalars!();
}

impl<'de, T> Visitor<'de> for Texts<T>
where
    T: FromStr,
    T::Err: fmt::Display,
{
    type Value = Vec<T>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value or a list of values")
    }

    scalars!();

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Self::Value, A::Error> {
        let mut values = Vec::new();
        while let Some(item) = items.next_element_seed(Item(PhantomData))? {
            values.push(item);
        }
        Ok(values)
    }
}

/// One element of a list.
struct Item<T>(PhantomData<T>);

impl<'de, T> serde::de::DeserializeSeed<'de> for Item<T>
where
    T: FromStr,
    T::Err: fmt::Display,
{
    type Value = T;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<T, D::Error> {
        let value = one(deserializer)?;
        value.ok_or_else(|| D::Error::custom("an empty element: remove it"))
    }
}
