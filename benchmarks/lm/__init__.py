"""How fast is the loop? Beside transformers' own sampling, TRL's trainer and the machine's floor. See `report`."""
