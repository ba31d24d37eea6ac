//! The filter language: which records of a list are meant.
//!
//! One language in two spellings, for the inventory and for whatever else is a list of JSON objects:
//!
//! | compact | expression | selects the records where |
//! | --- | --- | --- |
//! | `name=web` | `name == "web"` | the field is this text |
//! | `name<web` | `name.contains("web")`, `"web" in name` | it contains the text; a list has it; a map has the key |
//! | `name{web` | `name.startswith("web")` | it begins with it |
//! | `name}web` | `name.endswith("web")` | it ends with it |
//! | `name!<web` | `!name.contains("web")` | it is there and does not; `!=`, `!{` and `!}` likewise |
//! | `a=1,b=2` | `a == "1" && b == "2"` | both |
//!
//! The compact form has no white space outside quotes. The expression form also has `||`, `!` and parentheses (or `or`,
//! `not`), `==`, `!=`, `<`, `<=`, `>`, `>=`, `in ["a", "b"]`, `not in`, `=~ "regex"`, `has(field)`, `size(field)` and
//! `age(field) > 2h`. Fields below the top are reached by dots (`_broker_args.provider`), those with odd names by
//! brackets (`labels["broker.owner"]`), members of a list by position (`ports[0]`). The Python tool's `@inv.` before a
//! field, `@inv[0:3]`, `@inv[-1]` and `|` between stages mean what they meant there. Nothing is run as code.
//!
//! # Three values
//!
//! A comparison or test of a field that is missing or null is neither true nor false but unknown, its negation too, and
//! only what is true is selected. So a record without a name is selected by no filter on `name`, `name != "x"` included;
//! `has(name)` is always true or false. A path below the top level that leads to nothing in any record is most likely
//! misspelt: of it `has` is unknown as well, so that `!has(_broker_args.worklfow)` does not select everything. Beyond
//! that:
//!
//! - **Text** in quotes is compared as text. A compact `count=5` also finds the number 5.
//! - **Numbers** are compared by value, also with text that spells a number. With other text they are unequal.
//! - **`<`, `<=`, `>`, `>=`** order numbers, durations (`2h`, also text that spells one), times (RFC 3339 or a date;
//!   UTC unless it says otherwise) and, in quotes, versions (text that begins with a digit: `"9.4" < "9.10"`). Two
//!   values that have no common order, a word and a number say, make the comparison unknown.
//! - **A text test** of what is no text is false, its negation true. **Values of different kinds** are unequal.
//! - **Lists**: a path goes on in every member (`disks.name`), and the values of a list at its end are compared one by
//!   one. A condition is true if it is for any of them; `!=`, `not in` and `!` ask that it is for none. A member
//!   that lacks the field makes it unknown, unless another makes it true; an empty list on the way means that the field
//!   is missing, one at the end that nothing equals it.
//!
//! ```
//! # use broker_core::filter::Filter;
//! # use serde_json::json;
//! let records = [json!({"name": "web-1", "count": 3}), json!({"name": "db"}), json!({"hostname": "no name"})];
//! let records: Vec<_> = records.iter().filter_map(|record| record.as_object()).collect();
//! let filter: Filter = "name!<web".parse()?;
//! assert_eq!(filter.select(&records, ["name", "hostname"], jiff::Timestamp::now())?.indices, [1]);
//! assert_eq!(filter.to_string(), r#""web" not in name"#);
//! # Ok::<(), broker_core::filter::FilterError>(())
//! ```

mod compact;
mod error;
mod eval;
mod lexer;
mod parser;
mod select;
#[cfg(test)]
mod tests;
mod tree;

use std::fmt::{self, Display, Formatter};
use std::str::FromStr;

pub use self::error::{FilterError, FilterErrorKind};
pub use self::select::{Note, Selection};

/// A filter that has been read. Two are equal if they mean the same, however they were spelt.
///
/// Displayed as an expression, which reads back as an equal filter.
#[derive(Debug, Clone)]
pub struct Filter {
    /// As it was given, for errors that show up only when it meets records.
    text: String,
    stages: Vec<tree::Stage>,
}

impl Filter {
    /// Reads a filter in either form.
    ///
    /// # Errors
    ///
    /// [`FilterError`] with the first mistake and its place. Blank text is an error.
    pub fn parse(text: &str) -> Result<Self, FilterError> {
        Ok(Self { text: text.to_owned(), stages: parser::parse(text)? })
    }

    /// The filter as it was given.
    #[must_use]
    pub fn text(&self) -> &str {
        &self.text
    }
}

impl PartialEq for Filter {
    fn eq(&self, other: &Self) -> bool {
        self.stages == other.stages
    }
}

impl FromStr for Filter {
    type Err = FilterError;

    fn from_str(text: &str) -> Result<Self, FilterError> {
        Self::parse(text)
    }
}

impl Display for Filter {
    fn fmt(&self, out: &mut Formatter<'_>) -> fmt::Result {
        for (i, stage) in self.stages.iter().enumerate() {
            if i > 0 {
                out.write_str(" | ")?;
            }
            stage.fmt(out)?;
        }
        Ok(())
    }
}
