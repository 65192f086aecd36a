//! Options of one kind, listed: a list is the struct, its defaults and what they set.

macro_rules! listed {
    (
        $(#[$doc:meta])* $all:ident, $one:ident, $value:literal;
        $($(#[$help:meta])* $name:ident, $env:literal, $($path:ident).+;)*
    ) => {
        $(#[$doc])*
        #[derive(Clone, Debug, Default, PartialEq, Args, Serialize, Deserialize)]
        #[serde(default, rename_all = "kebab-case")]
        pub(crate) struct $all {
            $(
                $(#[$help])*
                #[arg(long, value_name = $value, env = $env)]
                pub(crate) $name: Option<$one>,
            )*
        }

        impl $all {
            /// These; where they say nothing, the others.
            pub(super) fn over(self, others: Self) -> Self {
                Self { $($name: self.$name.or(others.$name)),* }
            }

            /// As they are here.
            pub(super) fn of(config: &ServerConfig) -> Self {
                Self { $($name: Some($one(config.$($path).+))),* }
            }

            /// Puts those there that are given.
            pub(super) fn put(self, config: &mut ServerConfig) {
                $(if let Some($one(value)) = self.$name {
                    config.$($path).+ = value;
                })*
            }
        }
    };
}

pub(super) use listed;
