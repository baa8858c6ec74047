"""Many prompts, one run each: the plan, the ledger, the workers on this machine or a cluster, the gallery."""
