//! What of a log is asked for.
//!
//! Why here: kubelet's parameters and its two refusals, pure. Route in: a query. Route out: a [`LogQuery`], or a text as
//! kubelet has it.

use super::super::answer::Refusal;
use http::StatusCode;

/// A query of a log.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LogQuery {
    /// Go on with what is still to come.
    pub follow: bool,
    /// Of the container before this one.
    pub previous: bool,
    /// Only so many lines from the end.
    pub tail: Option<u64>,
    /// Only so many bytes.
    pub limit: Option<u64>,
}

impl LogQuery {
    /// Reads `query`.
    pub fn parse(query: &str) -> Result<Self, Refusal> {
        let undecodable =
            || Refusal::new(StatusCode::BAD_REQUEST, r#"{"message": "Unable to decode query."}"#);
        let invalid = || Refusal::new(StatusCode::UNPROCESSABLE_ENTITY, r#"{"message": "Invalid request."}"#);
        let no_times = |what: &str| {
            let text = format!(
                "{what} is not offered: the log of a serial console has no times; use tailLines (--tail)"
            );
            Refusal::new(StatusCode::BAD_REQUEST, text)
        };
        let mut asked = Self::default();
        for pair in query.split('&').filter(|pair| !pair.is_empty()) {
            let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
            let flag = || match value {
                "true" | "1" | "True" | "TRUE" | "t" | "T" => Ok(true),
                "false" | "0" | "False" | "FALSE" | "f" | "F" | "" => Ok(false),
                _ => Err(undecodable()),
            };
            let number = || match value.parse::<i64>() {
                Ok(number) => u64::try_from(number).map_err(|_| invalid()),
                Err(_) => Err(undecodable()),
            };
            match key {
                "follow" => asked.follow = flag()?,
                "previous" => asked.previous = flag()?,
                "timestamps" if flag()? => return Err(no_times("timestamps")),
                "sinceSeconds" | "sinceTime" if !value.is_empty() => return Err(no_times(key)),
                "tailLines" if value == "all" || value.is_empty() => {}
                "tailLines" => asked.tail = Some(number()?),
                "limitBytes" if !value.is_empty() => match number()? {
                    0 => return Err(invalid()),
                    bytes => asked.limit = Some(bytes),
                },
                "stream" if !matches!(value, "" | "All" | "Stdout") => {
                    let text =
                        format!("unable to return the given log stream: {value:?}; a serial console has one");
                    return Err(Refusal::new(StatusCode::BAD_REQUEST, text));
                }
                _ => {}
            }
        }
        Ok(asked)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kubectls_parameters_are_read_and_what_makes_no_sense_is_refused_as_a_kubelet_does() {
        let asked = LogQuery::parse("follow=true&tailLines=10&limitBytes=100&timestamps=false").unwrap();
        let expected = LogQuery { follow: true, previous: false, tail: Some(10), limit: Some(100) };
        assert_eq!(asked, expected);
        assert_eq!(LogQuery::parse("").unwrap(), LogQuery::default());
        let code = |query: &str| LogQuery::parse(query).unwrap_err().0.as_u16();
        assert_eq!((code("tailLines=x"), code("follow=maybe")), (400, 400));
        assert_eq!((code("tailLines=-1"), code("limitBytes=0")), (422, 422));
        for query in ["timestamps=true", "sinceSeconds=5", "sinceTime=2026-01-01T00:00:00Z", "stream=Stderr"]
        {
            assert_eq!(code(query), 400, "{query}");
        }
    }
}
