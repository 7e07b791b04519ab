//! Who is listed under a value, and the places the lists point to.

use std::{
    collections::{BTreeMap, HashMap},
    hash::{BuildHasher, Hash},
};

/// Where a filter lies in its [`Slab`].
pub type At = u32;

/// Filters listed under one value. Most values have one, so that one costs no allocation.
#[derive(Debug)]
pub enum Postings {
    One(At),
    Many(Vec<At>),
}

impl Default for Postings {
    fn default() -> Self {
        Self::Many(Vec::new())
    }
}

impl Postings {
    pub fn as_slice(&self) -> &[At] {
        match self {
            Self::One(at) => std::slice::from_ref(at),
            Self::Many(list) => list,
        }
    }

    pub fn is_empty(&self) -> bool {
        self.as_slice().is_empty()
    }

    pub fn push(&mut self, at: At) {
        match self {
            Self::One(first) => *self = Self::Many(vec![*first, at]),
            Self::Many(list) if list.is_empty() => *self = Self::One(at),
            Self::Many(list) => list.push(at),
        }
    }

    pub fn remove(&mut self, at: At) {
        match self {
            Self::One(only) if *only == at => *self = Self::default(),
            Self::One(_) => {}
            Self::Many(list) => {
                if let Some(place) = list.iter().position(|other| *other == at) {
                    list.swap_remove(place);
                }
                match list.as_slice() {
                    [] => *list = Vec::new(),
                    [only] => *self = Self::One(*only),
                    _ => {}
                }
            }
        }
    }
}

/// Maps of postings: a value without filters is not kept.
pub trait PostingsMap<K> {
    fn list(&mut self, value: K, at: At);
    fn unlist(&mut self, value: &K, at: At);
}

impl<K: Hash + Eq, S: BuildHasher + Default> PostingsMap<K> for HashMap<K, Postings, S> {
    fn list(&mut self, value: K, at: At) {
        self.entry(value).or_default().push(at);
    }

    fn unlist(&mut self, value: &K, at: At) {
        if let Some(postings) = self.get_mut(value) {
            postings.remove(at);
            if postings.is_empty() {
                self.remove(value);
            }
        }
    }
}

impl<K: Ord> PostingsMap<K> for BTreeMap<K, Postings> {
    fn list(&mut self, value: K, at: At) {
        self.entry(value).or_default().push(at);
    }

    fn unlist(&mut self, value: &K, at: At) {
        if let Some(postings) = self.get_mut(value) {
            postings.remove(at);
            if postings.is_empty() {
                self.remove(value);
            }
        }
    }
}

/// Gives memory back once a map has become much too large for what is in it.
pub fn tidy<K: Hash + Eq, V, S: BuildHasher>(map: &mut HashMap<K, V, S>) {
    if map.capacity() > 1_024 && map.len() < map.capacity() / 8 {
        map.shrink_to(map.len() * 2);
    }
}

/// Filters by small numbers that stay the same as long as they live.
#[derive(Debug)]
pub struct Slab<T> {
    places: Vec<Option<T>>,
    free: Vec<At>,
}

impl<T> Default for Slab<T> {
    fn default() -> Self {
        Self {
            places: Vec::new(),
            free: Vec::new(),
        }
    }
}

impl<T> Slab<T> {
    pub fn insert(&mut self, value: T) -> At {
        match self.free.pop() {
            Some(at) => {
                self.places[at as usize] = Some(value);
                at
            }
            None => {
                self.places.push(Some(value));
                // Four billion filters do not fit into memory.
                (self.places.len() - 1) as At
            }
        }
    }

    pub fn remove(&mut self, at: At) -> Option<T> {
        let value = self.places.get_mut(at as usize)?.take()?;
        self.free.push(at);
        if self.is_empty() {
            *self = Self::default();
        }
        Some(value)
    }

    pub fn get(&self, at: At) -> Option<&T> {
        self.places.get(at as usize)?.as_ref()
    }

    pub fn get_mut(&mut self, at: At) -> Option<&mut T> {
        self.places.get_mut(at as usize)?.as_mut()
    }

    pub fn is_empty(&self) -> bool {
        self.free.len() == self.places.len()
    }
}
