"""The certificate: the risks that it bounds, its terms, what was proved, and what it depends on."""
