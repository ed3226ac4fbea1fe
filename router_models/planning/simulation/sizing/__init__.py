"""What a number of requests a day needs: replicas of each tier, gateway, router, decision store, dollars."""
