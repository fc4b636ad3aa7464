//! Enums of the wire: names for the numbers that Kafka's schemas leave to the documentation.

/// Defines an enum whose variants are numbers on the wire. A number that we have no name for is kept as it came, so that what
/// a newer broker says is shown, and can be deleted, rather than mistaken for something else.
macro_rules! numbers {
    ($(#[$about:meta])* $name:ident { $($(#[$meaning:meta])* $variant:ident = $number:literal,)+ }) => {
        $(#[$about])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum $name {
            $($(#[$meaning])* $variant,)+
            /// A number that this client has no name for.
            Other(i8),
        }

        impl $name {
            /// Every one that has a name.
            pub const NAMED: &[$name] = &[$($name::$variant),+];

            /// The number on the wire.
            pub const fn number(self) -> i8 {
                match self {
                    $($name::$variant => $number,)+
                    $name::Other(number) => number,
                }
            }

            /// What a number on the wire means.
            pub const fn of_number(number: i8) -> $name {
                match number {
                    $($number => $name::$variant,)+
                    other => $name::Other(other),
                }
            }
        }
    };
}

pub(super) use numbers;
