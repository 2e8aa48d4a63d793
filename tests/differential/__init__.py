"""The same script of a client against a server alone and through the broker: nothing differs but what policy says."""
