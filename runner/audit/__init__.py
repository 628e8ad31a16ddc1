"""The empirical privacy audit: what an attacker who sees every update can prove about the real private trainer."""
