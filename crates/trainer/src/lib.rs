//! Trains elastic supernets
