"""Stripe: cards over PaymentIntents, settlement from the balance transactions of automatic payouts."""
