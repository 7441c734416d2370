"""The judge: whether a reply's boxed answer equals the gold one."""
