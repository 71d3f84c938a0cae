"""What a detector costs: parameters, operations, memory and time, part by part and stage by stage."""
