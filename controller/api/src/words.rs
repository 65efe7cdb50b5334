//! Enumerations whose values libvirt calls as KubeVirt's API does.
//!
//! Why here: each value is written once, for the schema, for JSON and for the domain's XML. Route in: names. Route out: an enum.

/// A value whose name in libvirt's XML is its name in the API.
macro_rules! words {
    ($(#[$doc:meta])* $name:ident { $($(#[$of:meta])* $variant:ident = $word:literal,)+ }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
        #[serde(rename_all = "lowercase")]
        pub enum $name {
            $($(#[$of])* $variant,)+
        }

        impl $name {
            /// As the API and libvirt call it.
            pub fn name(self) -> &'static str {
                match self {
                    $(Self::$variant => $word,)+
                }
            }
        }
    };
}
pub(crate) use words;
