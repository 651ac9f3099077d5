//! What a call is.

use std::borrow::Cow;

use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::Needs;

/// HTTP's methods, as far as they are used (RFC 9110, section 9).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Method {
    /// Reads; the request is the query.
    Get,
    /// Does; the request is the body.
    Post,
    /// Makes it so, however often it is asked; the request is the body.
    Put,
    /// Takes away; the request is the query.
    Delete,
}

impl Method {
    /// Its name.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Get => "GET",
            Self::Post => "POST",
            Self::Put => "PUT",
            Self::Delete => "DELETE",
        }
    }

    /// Whether the request is a body, of JSON, and not a query.
    pub fn has_body(self) -> bool {
        matches!(self, Self::Post | Self::Put)
    }
}

/// One thing that can be asked of the server. None can be written down without what it needs:
///
/// ```compile_fail,E0046
/// use goldleaf_api::v1::Nothing;
/// use goldleaf_api::{Call, Method};
///
/// struct OpenDoor;
///
/// impl Call for OpenDoor {
///     const METHOD: Method = Method::Get;
///     const PATH: &'static str = "/v1/open";
///     const SUMMARY: &'static str = "Everything, for everybody.";
///     type Request = Nothing;
///     type Answer = Nothing;
/// }
/// ```
pub trait Call: 'static {
    /// How.
    const METHOD: Method;
    /// Where; `{NAME}` is the request's field of that name, a string.
    const PATH: &'static str;
    /// Who may.
    const NEEDS: Needs;
    /// What it does, in one sentence.
    const SUMMARY: &'static str;
    /// What is said. A field of a call without a body is a scalar, for it is part of a query.
    type Request: Serialize + DeserializeOwned + JsonSchema + Send + 'static;
    /// What is answered.
    type Answer: Serialize + DeserializeOwned + JsonSchema + Send + 'static;
}

/// A call, without its types.
#[derive(Clone)]
pub struct Described {
    /// The name of its type.
    pub name: &'static str,
    /// How.
    pub method: Method,
    /// Where.
    pub path: &'static str,
    /// Who may.
    pub needs: Needs,
    /// What it does.
    pub summary: &'static str,
    pub(crate) request: fn(&mut SchemaGenerator) -> Schema,
    /// Whether it has a name that others may refer to, and its schema.
    pub(crate) answer: fn(&mut SchemaGenerator) -> Schema,
}

impl Described {
    /// Describes a call.
    pub fn of<C: Call>(name: &'static str) -> Self {
        Self {
            name,
            method: C::METHOD,
            path: C::PATH,
            needs: C::NEEDS,
            summary: C::SUMMARY,
            request: |generator| C::Request::json_schema(generator),
            answer: |generator| generator.subschema_for::<C::Answer>(),
        }
    }

    /// The names in its path.
    pub fn path_fields(&self) -> Vec<&'static str> {
        let braced = self.path.split('{').skip(1);
        braced.filter_map(|rest| rest.split_once('}').map(|(name, _)| name)).collect()
    }
}

/// What is answered where a call fails.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Problem {
    /// What kind of failure it is, for programs.
    pub code: Cow<'static, str>,
    /// What is wrong, for people.
    pub message: String,
}
