//! JSON member name -> slot.
//!
//! In: the names of a message's fields, then the names that senders write. Out: the slot. Never: allocates or
//! compares more than a few names a look-up: the table's content is the schema's, so senders cannot make it collide.

/// An open-addressing hash table, never more than half full.
#[derive(Debug)]
pub(super) struct NameTable {
    entries: Vec<(Box<[u8]>, u16)>,
    /// Index into `entries` plus one, zero for free. A power of two long.
    places: Box<[u16]>,
}

impl NameTable {
    /// The table of these slots' names; the error is a name that two slots have.
    pub(super) fn new<'a>(slots: impl Iterator<Item = [&'a str; 2]>) -> Result<NameTable, String> {
        let mut entries: Vec<(Box<[u8]>, u16)> = Vec::new();
        let mut seen = std::collections::HashMap::new();
        for (slot, names) in slots.enumerate() {
            for name in names {
                match seen.insert(name, slot) {
                    Some(other) if other != slot => return Err(name.to_owned()),
                    Some(_) => {}
                    None => entries.push((name.as_bytes().into(), slot as u16)),
                }
            }
        }
        let mut places = vec![0u16; (entries.len() * 2).next_power_of_two()].into_boxed_slice();
        for (index, (name, _)) in entries.iter().enumerate() {
            let mut place = hash(name) as usize & (places.len() - 1);
            while places[place] != 0 {
                place = (place + 1) & (places.len() - 1);
            }
            places[place] = index as u16 + 1;
        }
        Ok(NameTable { entries, places })
    }

    /// The slot with this name.
    pub(super) fn find(&self, name: &[u8]) -> Option<u16> {
        let mut place = hash(name) as usize & (self.places.len() - 1);
        loop {
            let (known, slot) = &self.entries[usize::from(self.places[place].checked_sub(1)?)];
            if **known == *name {
                return Some(*slot);
            }
            place = (place + 1) & (self.places.len() - 1);
        }
    }
}

/// FNV-1a: names are short.
fn hash(name: &[u8]) -> u32 {
    name.iter().fold(0x811c_9dc5, |hash, byte| (hash ^ u32::from(*byte)).wrapping_mul(0x0100_0193))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_leads_to_its_slot_and_no_other_name_to_any() {
        let names: Vec<_> = (0..300).map(|i| [format!("fieldName{i}"), format!("field_name{i}")]).collect();
        let table = NameTable::new(names.iter().map(|[json, name]| [json.as_str(), name.as_str()])).unwrap();
        for (slot, [json, name]) in names.iter().enumerate() {
            assert_eq!(table.find(json.as_bytes()), Some(slot as u16));
            assert_eq!(table.find(name.as_bytes()), Some(slot as u16));
        }
        for unknown in ["", "f", "fieldName300", "field_name"] {
            assert_eq!(table.find(unknown.as_bytes()), None, "{unknown}");
        }
        assert_eq!(NameTable::new(std::iter::empty()).unwrap().find(b"a"), None);
    }

    #[test]
    fn a_name_that_two_fields_have_is_refused() {
        assert_eq!(NameTable::new([["aB", "a_b"], ["aB", "aB"]].into_iter()).unwrap_err(), "aB");
    }
}
