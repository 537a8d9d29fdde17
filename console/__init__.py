"""The pages that a pricing manager opens: what moves and why, what to approve, what if, and how it went."""
