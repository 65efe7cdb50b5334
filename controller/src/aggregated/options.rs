//! Bodies of requests, as virtctl sends them.
//!
//! Why here: KubeVirt reads a body that may be empty, and fields that only some subresources have. Pure. Route in: bytes.
//! Route out: options, or a 400 with the parser's reason.

use serde::Deserialize;
use serde::de::DeserializeOwned;

use super::answer::Refusal;

/// Largest body that is read, in bytes: a whole VirtualMachine of `expand-vm-spec`, as large as etcd takes one.
pub const MOST_BODY: usize = 3 << 20;

/// Of `start`.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Start {
    /// The guest is to stand still from its first instruction.
    pub paused: bool,
    /// `All`: only say what would happen.
    pub dry_run: Vec<String>,
}

/// Of `stop`.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Stop {
    /// Seconds from the power button to the power switch.
    pub grace_period: Option<i64>,
    /// `All`: only say what would happen.
    pub dry_run: Vec<String>,
}

/// Of `restart`.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Restart {
    /// Seconds; only 0 is known.
    pub grace_period_seconds: Option<i64>,
    /// `All`: only say what would happen.
    pub dry_run: Vec<String>,
}

/// Of `pause` and `unpause`.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Pause {
    /// `All`: only say what would happen.
    pub dry_run: Vec<String>,
}

/// Of `freeze`.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Freeze {
    /// After this long the guest is thawed whatever happened, `5m0s`.
    pub unfreeze_timeout: Option<String>,
}

/// Whether a request only asks what would happen.
pub fn is_dry(dry_run: &[String]) -> bool {
    dry_run.iter().any(|which| which == "All")
}

/// Reads a body; an empty one is the default.
pub fn read<T: DeserializeOwned + Default>(body: &[u8]) -> Result<T, Refusal> {
    if body.trim_ascii().is_empty() {
        return Ok(T::default());
    }
    serde_json::from_slice(body).map_err(|error| {
        Refusal::bad_request(format!("Can not unmarshal Request body to struct, error: {error}"))
    })
}

/// Seconds of a duration as Go writes it (`1h2m3.5s`), rounded up; `None` for anything else.
pub fn go_seconds(text: &str) -> Option<u64> {
    let mut rest = text;
    let mut seconds = 0_f64;
    while !rest.is_empty() {
        let end = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let number: f64 = rest.get(..end)?.parse().ok()?;
        rest = rest.get(end..)?;
        let unit_end = rest.find(|c: char| c.is_ascii_digit() || c == '.').unwrap_or(rest.len());
        let unit = match rest.get(..unit_end)? {
            "h" => 3600.0,
            "m" => 60.0,
            "s" => 1.0,
            "ms" => 1e-3,
            "us" | "µs" => 1e-6,
            "ns" => 1e-9,
            _ => return None,
        };
        rest = rest.get(unit_end..)?;
        seconds += number * unit;
    }
    (!text.is_empty() && seconds.is_finite() && seconds < 1e9).then_some(seconds.ceil() as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_empty_body_asks_for_nothing_special_and_a_broken_one_is_a_bad_request() {
        assert_eq!(read::<Start>(b" \n"), Ok(Start::default()));
        let options: Start = read(br#"{"paused":true,"dryRun":["All"]}"#).unwrap();
        assert!(options.paused && is_dry(&options.dry_run));
        assert_eq!(read::<Stop>(b"{").unwrap_err().code, 400);
    }

    #[test]
    fn durations_are_read_as_go_writes_them() {
        assert_eq!(go_seconds("5m0s"), Some(300));
        assert_eq!(go_seconds("1h0m0.2s"), Some(3601));
        for wrong in ["", "5", "m", "-1s", "1d", "1e9s"] {
            assert_eq!(go_seconds(wrong), None, "{wrong}");
        }
    }
}
