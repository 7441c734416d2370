"""The rollout engine: one wide batch whose rows are refilled as replies end."""
