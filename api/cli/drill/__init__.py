"""`corridor drill`: disasters on a running stack of its own, recovered by the commands an operator has, and measured."""
