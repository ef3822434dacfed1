package restore

// AddDamage returns damage, which is nil at first, with one more lost part of the same file in it. Its text names the first
// parts and counts the others.
func AddDamage(damage error, e *DamageError) error { return addDamage(damage, e) }
