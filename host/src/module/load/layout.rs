//! Layout check: whether each type of the interface has the same layout in host and module.
//!
//! abi_stable describes the types of both sides and compares them. Its report of a difference fills pages: it goes to the
//! debug log, and one line of it to the operator.

use std::fmt;

use abi_stable::abi_stability::abi_checking::{
    AbiInstability, AbiInstabilityErrors, CheckingGlobals, ExpectedFound,
    check_layout_compatibility_with_globals,
};
use abi_stable::type_layout::{TLFieldOrFunction, TypeLayout};
use tracing::debug;

use crate::module::text::one_line;

/// Compares the module's types with the host's, each with its minor version. The error is the first difference, in one
/// line.
pub fn check_layout(
    host: (&'static TypeLayout, u16),
    module: (&'static TypeLayout, u16),
) -> Result<(), String> {
    // The side with fewer fields is the interface, the other one the implementation.
    let swapped = module.1 < host.1;
    let (interface, implementation) = if swapped { (module.0, host.0) } else { (host.0, module.0) };
    // Throw-away globals: those of abi_stable would go on pointing into the library after it is unmapped.
    check_layout_compatibility_with_globals(interface, implementation, &CheckingGlobals::new()).map_err(
        |errors| {
            debug!("layouts differ:\n{errors}");
            one_line(&first_difference(&errors, swapped))
        },
    )
}

/// Returns the innermost difference with its type and field: `RawTag.dts: host has i64, module has u64`.
fn first_difference(errors: &AbiInstabilityErrors, swapped: bool) -> String {
    let errors = errors.errors.iter().filter(|error| !error.errs.is_empty());
    let Some(error) = errors.max_by_key(|error| error.stack_trace.len()) else { return "unknown".into() };
    let Some(difference) = error.errs.iter().min_by_key(|difference| rank(difference)) else {
        return "unknown".into();
    };
    let mut outward = error.stack_trace.iter().rev().map(|level| &level.expected);
    let inner = outward.next();
    let type_name = inner.map(type_name).unwrap_or_default();
    let location = match outward.next().zip(inner) {
        Some((outer, field)) => format!("{}.{}", self::type_name(outer), field_name(field)),
        None => type_name.clone(),
    };
    let sides = |location: &str, expected: &dyn fmt::Display, found: &dyn fmt::Display| {
        let (host, module) = if swapped { (found, expected) } else { (expected, found) };
        format!("{location}: host has {host}, module has {module}")
    };
    match difference {
        AbiInstability::UnexpectedField(ExpectedFound { expected, found }) => sides(
            &type_name,
            &format_args!("field {} ({})", expected.name(), expected.full_type()),
            &format_args!("field {} ({})", found.name(), found.full_type()),
        ),
        AbiInstability::Name(types) => sides(&location, &types.expected, &types.found),
        AbiInstability::FieldCountMismatch(ExpectedFound { expected, found }) => {
            sides(&type_name, &format_args!("{expected} fields"), &format_args!("{found} fields"))
        }
        AbiInstability::Size(ExpectedFound { expected, found }) => {
            sides(&location, &format_args!("{expected} bytes"), &format_args!("{found} bytes"))
        }
        other => {
            // The name of the variant; its data can fill pages.
            let text = format!("{other:?}");
            let kind = text.split(|c: char| !c.is_alphanumeric()).next().unwrap_or_default();
            format!("{location}: {kind}")
        }
    }
}

/// How much a difference tells; the least tells most.
fn rank(difference: &AbiInstability) -> u8 {
    match difference {
        AbiInstability::UnexpectedField(_) => 0,
        AbiInstability::Name(_) => 1,
        AbiInstability::FieldCountMismatch(_) => 2,
        AbiInstability::Size(_) => 3,
        _ => 4,
    }
}

fn field_name(level: &TLFieldOrFunction) -> &str {
    match level {
        TLFieldOrFunction::Field(field) => field.name(),
        TLFieldOrFunction::Function(function) => function.name.as_str(),
    }
}

fn type_name(level: &TLFieldOrFunction) -> String {
    match level {
        TLFieldOrFunction::Field(field) => field.layout().name().to_owned(),
        TLFieldOrFunction::Function(function) => function.name.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use abi_stable::StableAbi;

    use super::*;

    /// Tables of made-up versions: same name, other fields.
    macro_rules! table {
        ($version:ident { $($field:ident: $type:ty,)* } and { $($later:ident: $later_type:ty,)* }) => {
            #[allow(dead_code, reason = "only the layouts are looked at")]
            mod $version {
                use super::*;

                #[repr(C)]
                #[derive(StableAbi)]
                #[sabi(kind(Prefix(prefix_ref = TableRef, prefix_fields = TablePrefix)))]
                pub struct Table {
                    pub argument: extern "C" fn(Argument),
                    $(pub $field: $type,)*
                    #[sabi(last_prefix_field)]
                    pub last: u8,
                    $(pub $later: $later_type,)*
                }

                #[repr(C)]
                #[derive(StableAbi)]
                pub struct Argument {
                    pub dts: argument::$version,
                }

                pub const LAYOUT: &TypeLayout = <TableRef as StableAbi>::LAYOUT;
            }
        };
    }

    #[allow(non_camel_case_types, reason = "named after the version that has it")]
    mod argument {
        pub type base = i64;
        pub type longer = i64;
        pub type moved = i64;
        pub type unsigned = u64;
    }

    table!(base {} and {});
    table!(longer {} and { more: u16, });
    table!(moved { sooner: u8, } and {});
    table!(unsigned {} and {});

    #[test]
    fn lets_minor_versions_append() {
        let (base, longer) = ((base::LAYOUT, 3), (longer::LAYOUT, 4));
        assert_eq!(check_layout(base, base), Ok(()));
        assert_eq!(check_layout(base, longer), Ok(()));
        assert_eq!(check_layout(longer, base), Ok(()));
    }

    #[test]
    fn names_the_first_difference_of_layouts() {
        let (base, unsigned, moved) = ((base::LAYOUT, 3), unsigned::LAYOUT, moved::LAYOUT);
        let line = "Argument.dts: host has i64, module has u64";
        assert_eq!(check_layout(base, (unsigned, 3)), Err(line.into()));
        assert_eq!(check_layout(base, (unsigned, 2)), Err(line.into()), "an older minor");
        assert_eq!(check_layout(base, (unsigned, 4)), Err(line.into()), "a newer minor");
        let line = "Table: host has field last (u8), module has field sooner (u8)";
        assert_eq!(check_layout(base, (moved, 3)), Err(line.into()));
    }
}
